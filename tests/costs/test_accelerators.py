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
from realm_jax.costs.work import Work
from realm_jax.errors import UserError


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


def test_a_pass_on_a_cpu_takes_longer_than_reading():
  rates = {'flops_per_second': 100.0, 'bytes_per_second': 30.0}
  on_cpu, on_gpu = probed('cpu', rates), probed('gpu', rates)
  work = Work(flops=100, num_bytes=30)
  assert on_gpu.seconds(work, 'float32') == pytest.approx(1 + 1)
  assert on_cpu.seconds(work, 'float32') == pytest.approx(1 + 3)


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
