"""BERT's AdamW and its learning rate schedule."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from realm_jax.errors import UserError
from realm_jax.types import Array

SCHEDULES = ('linear', 'official')

_NOT_DECAYED = re.compile(r'layer_norm|bias')


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """Settings of the optimizer. The defaults are BERT's.

  Attributes:
    learning_rate: its peak. The official code has 3e-5 for pre-training at
      batch 512, 1e-4 for ICT at batch 4096, 1e-5 for fine-tuning.
    num_steps: updates until the rate has fallen to 0; the commands set it to
      that of their loop.
    num_warmup_steps: updates until the peak; None is a tenth of num_steps, at
      most 10,000, and with schedule 'official' at least 100.
    schedule: 'linear' rises to the peak and falls from there to 0; 'official'
      is REALM's, which drops a little after the warm-up.
    weight_decay: times the learning rate and the weight, taken off each weight
      that is neither a bias nor a layer norm's.
    clip_norm: largest global norm of the gradient; None for any.
    b1: decay rate of Adam's first moment.
    b2: decay rate of Adam's second moment.
    epsilon: added to the square root of the second moment.
    bias_correction: Adam as published; BERT's has none.
    frozen: regular expressions, searched in parameter paths such as
      'reader/span_head/score_kernel'. Parameters that match are not updated, do
      not count in the norm and have no moments. For those that a loss does not
      reach: their gradient is 0, but weight decay would shrink them.
    slowed: pairs of a regular expression, searched as those of frozen, and a
      factor of the learning rate of the parameters that match; the first that
      matches counts. A retriever learns from small, noisy gradients, which Adam
      makes as large as the reader's.

  Raises:
    UserError: a value is out of its range.
  """

  learning_rate: float
  num_steps: int = 1
  num_warmup_steps: int | None = None
  schedule: str = 'linear'
  weight_decay: float = 0.01
  clip_norm: float | None = 1.0
  b1: float = 0.9
  b2: float = 0.999
  epsilon: float = 1e-6
  bias_correction: bool = False
  frozen: tuple[str, ...] = ()
  slowed: tuple[tuple[str, float], ...] = ()

  def __post_init__(self):
    limits = (
      ('learning_rate', self.learning_rate >= 0, 'at least 0'),
      ('num_steps', self.num_steps >= 1, 'at least 1'),
      (
        'num_warmup_steps',
        self.num_warmup_steps is None or self.num_warmup_steps >= 0,
        'at least 0, or None for a tenth of num_steps',
      ),
      ('schedule', self.schedule in SCHEDULES, f'one of {SCHEDULES}'),
      ('weight_decay', self.weight_decay >= 0, 'at least 0'),
      (
        'clip_norm',
        self.clip_norm is None or self.clip_norm > 0,
        'more than 0, or None for no clipping',
      ),
      ('b1', 0 <= self.b1 < 1, 'at least 0 and less than 1'),
      ('b2', 0 <= self.b2 < 1, 'at least 0 and less than 1'),
      ('epsilon', self.epsilon > 0, 'more than 0'),
    )
    for name, good, expected in limits:
      if not good:
        raise UserError(
          f'OptimizerConfig.{name} is {getattr(self, name)!r}, expected '
          f'{expected}.'
        )
    for pattern in self.frozen:
      _check_pattern('frozen', pattern)
    for pair in self.slowed:
      if not (isinstance(pair, tuple | list) and len(pair) == 2):
        raise UserError(
          f'OptimizerConfig.slowed has {pair!r}, expected pairs such as '
          "(('^embedder/', 0.5),): mind the last comma."
        )
      _check_pattern('slowed', pair[0])
      if not isinstance(pair[1], int | float) or pair[1] < 0:
        raise UserError(
          f'OptimizerConfig.slowed has the factor {pair[1]!r}, expected a '
          'number of at least 0.'
        )

  def for_stage(
    self, num_steps: int, frozen: tuple[str, ...], params: Any
  ) -> 'OptimizerConfig':
    """These settings for one stage.

    Args:
      num_steps: of its loop.
      frozen: patterns of what the stage does not train, besides those given.
      params: that it trains; shapes are enough.

    Raises:
      UserError: a pattern matches no parameter.
    """
    _check_patterns(params, 'frozen', self.frozen)
    _check_patterns(params, 'slowed', [pattern for pattern, _ in self.slowed])
    return dataclasses.replace(
      self, num_steps=max(num_steps, 1), frozen=(*self.frozen, *frozen)
    )

  @property
  def warmup_steps(self) -> int:
    """num_warmup_steps, or what stands in for None."""
    if self.num_warmup_steps is not None:
      return self.num_warmup_steps
    steps = min(10_000, self.num_steps // 10)
    return max(100, steps) if self.schedule == 'official' else steps


def _check_pattern(field: str, pattern: Any) -> None:
  try:
    re.compile(pattern)
  except (re.error, TypeError) as error:
    raise UserError(
      f'OptimizerConfig.{field} has {pattern!r}, expected a regular expression '
      f'({error}).'
    ) from error


def make_schedule(config: OptimizerConfig) -> optax.Schedule:
  """The learning rate of each update, the first being update 0.

  'linear': lr (t + 1) / W for t < W, then lr (N - t) / (N - W), with W warm-up
  steps of N: no update has rate 0, and the peak is reached at t = W - 1 and W.

  'official': lr s / W for s < W, then lr (1 - s / N), with s = t + 1, the count
  that TF1's graph read in practice. The fall is not shifted by W: after the
  warm-up the rate drops at once from lr to lr (1 - W / N).
  """
  peak, total, warmup = (
    config.learning_rate,
    config.num_steps,
    config.warmup_steps,
  )

  def linear(count: Array) -> Array:
    step = jnp.minimum(count, total)
    rising = (step + 1) / max(1, warmup)
    falling = (total - step) / max(1, total - warmup)
    return peak * jnp.where(step < warmup, rising, falling)

  def official(count: Array) -> Array:
    step = count + 1
    falling = 1 - jnp.minimum(step, total) / total
    return peak * jnp.where(step < warmup, step / max(1, warmup), falling)

  return linear if config.schedule == 'linear' else official


class AdamState(NamedTuple):
  """Moments of scale_by_uncorrected_adam, trees like the parameters."""

  mu: Any
  nu: Any


def scale_by_uncorrected_adam(
  b1: float, b2: float, epsilon: float
) -> optax.GradientTransformation:
  """Adam without bias correction, as in BERT's AdamWeightDecayOptimizer.

  m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; m / (sqrt(v) + epsilon).
  optax has only the corrected kind.
  """

  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    return AdamState(mu=zeros, nu=zeros)

  def update(updates, state, params=None):
    del params
    mu = optax.tree.update_moment(updates, state.mu, b1, 1)
    nu = optax.tree.update_moment(updates, state.nu, b2, 2)
    updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), mu, nu)
    return updates, AdamState(mu, nu)

  return optax.GradientTransformation(init, update)


def _path_name(path: tuple) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')


def decayed(params: Any) -> Any:
  """The tree of params, True at weights that decay: no bias, no layer norm."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: not _NOT_DECAYED.search(_path_name(path)), params
  )


def _check_patterns(params: Any, field: str, patterns: Sequence[str]) -> None:
  """Raises UserError if a pattern matches the path of no parameter."""
  names = [
    _path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)
  ]
  for pattern in patterns:
    if not any(re.search(pattern, name) for name in names):
      raise UserError(
        f'OptimizerConfig.{field} has {pattern!r}, which matches no parameter. '
        f'Paths look like {names[0]!r} and {names[-1]!r}.'
      )


def _slow_down(
  slowed: tuple[tuple[str, float], ...],
) -> optax.GradientTransformation:
  """Multiplies the updates of some parameters by a factor."""

  def factor(path: tuple) -> float:
    name = _path_name(path)
    return next((f for pattern, f in slowed if re.search(pattern, name)), 1.0)

  return optax.stateless(
    lambda updates, params: jax.tree_util.tree_map_with_path(
      lambda path, update: factor(path) * update, updates
    )
  )


def _labels(params: Any, frozen: tuple[str, ...]) -> Any:
  """The tree of params with 'frozen' or 'trained' for each array."""

  def label(path, _):
    name = _path_name(path)
    matches = any(re.search(pattern, name) for pattern in frozen)
    return 'frozen' if matches else 'trained'

  return jax.tree_util.tree_map_with_path(label, params)


def make_optimizer(
  config: OptimizerConfig, params: Any
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """BERT's AdamW: clip, Adam, decoupled weight decay, schedule.

  Args:
    config: settings.
    params: the parameters, for their paths; shapes are enough.

  Returns:
    (transformation, schedule): schedule gives the learning rate of an update
    by its number, from 0.

  Raises:
    UserError: a pattern of config.frozen or config.slowed matches no parameter.
  """
  _check_patterns(params, 'frozen', config.frozen)
  _check_patterns(params, 'slowed', [pattern for pattern, _ in config.slowed])
  schedule = make_schedule(config)
  if config.bias_correction:
    adam = optax.scale_by_adam(config.b1, config.b2, config.epsilon)
  else:
    adam = scale_by_uncorrected_adam(config.b1, config.b2, config.epsilon)
  clip = optax.identity()
  if config.clip_norm is not None:
    clip = optax.clip_by_global_norm(config.clip_norm)
  transformation = optax.chain(
    clip,
    adam,
    optax.add_decayed_weights(config.weight_decay, mask=decayed),
    optax.scale_by_learning_rate(schedule),
    _slow_down(config.slowed) if config.slowed else optax.identity(),
  )
  if config.frozen:
    transformation = optax.partition(
      {'trained': transformation, 'frozen': optax.set_to_zero()},
      _labels(params, config.frozen),
    )
  return transformation, schedule
