"""The table of accelerators, and which of them is at hand."""

import types

import jax
import pytest

from realm_jax.costs.accelerators import (
  ACCELERATORS,
  Accelerator,
  at_hand,
  find,
  probed,
)
from realm_jax.costs.estimate import estimate
from realm_jax.costs.work import Work, embedder_work
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig
from realm_jax.runs.plan import workload
from realm_jax.runs.pretrain import PretrainConfig


@pytest.mark.parametrize('name', ACCELERATORS)
def test_nothing_is_faster_than_its_datasheet(name):
  device = find(name)
  assert device.name == name
  assert device.peak_flops is not None
  assert 0.5 * device.peak_flops < device.flops_per_second < device.peak_flops
  assert 'measured' in device.source or 'assumed' in device.source


def test_seconds_are_products_and_passes_by_their_rates():
  device = Accelerator('x', 1e9, None, 100.0, 0.5, 10.0, '')
  work = Work(flops=1000, num_bytes=30)
  assert device.seconds(work, 'bfloat16') == 10 + 3
  assert device.seconds(work, 'float32', num_devices=2) == (20 + 3) / 2


@pytest.mark.parametrize(
  ('platform', 'times'), [('cpu', 3), ('gpu', 2), ('tpu', 1)]
)
def test_a_pass_takes_longer_than_reading(platform, times):
  rates = {'flops_per_second': 100.0, 'bytes_per_second': 30.0}
  work = Work(flops=100, num_bytes=30)
  seconds = probed(platform, rates).seconds(work, 'float32')
  assert seconds == pytest.approx(1 + times)


@pytest.mark.slow
def test_what_an_h200_took_is_planned_within_thirty_percent():
  """Measured in experiments/accelerator: 181 ms, 59 GiB, 8,417 blocks/s."""
  encoder = EncoderConfig(
    dtype='bfloat16', attention_dropout_rate=0.0, scan_layers=True
  )
  model, device = RealmConfig(encoder), find('h200')
  config = PretrainConfig(batch_size=16, num_candidates=8)
  plan = estimate(workload(model, config, Lengths()), device)
  assert 0.7 < 0.181 / plan['run']['step_seconds'] < 1.3
  memory = sum(plan['memory'].values()) - plan['memory']['index']
  assert 0.7 < 59 * 2**30 / memory < 1.3
  embedding = embedder_work(model, 512, 288, train=False, fused=True)
  assert 0.7 < 512 / 8417 / device.seconds(embedding, 'bfloat16') < 1.3


@pytest.mark.parametrize(
  ('kind', 'name'),
  [
    ('NVIDIA H100 80GB HBM3', 'h100'),
    ('NVIDIA H200', 'h200'),
    ('NVIDIA A100-SXM4-80GB', 'a100'),
    ('NVIDIA A100-SXM4-40GB', 'a100-40gb'),
    ('TPU v4', 'v4'),
    ('TPU v5 lite', 'v5e'),
    ('TPU v5', 'v5p'),
    ('TPU v6 lite', 'v6e'),
  ],
)
def test_a_device_is_known_by_its_kind(kind, name, monkeypatch):
  device = types.SimpleNamespace(platform='gpu', device_kind=kind)
  monkeypatch.setattr(jax, 'local_devices', lambda: [device])
  assert at_hand() == name


def test_an_unknown_device_is_not_taken_for_a_cpu(monkeypatch):
  device = types.SimpleNamespace(platform='gpu', device_kind='NVIDIA L4')
  monkeypatch.setattr(jax, 'local_devices', lambda: [device])
  with pytest.raises(UserError, match=r'NVIDIA L4.*--accelerator: cpu, h100'):
    at_hand()
