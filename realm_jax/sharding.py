"""The mesh of a run, and where its parameters, state and batches lie on it.

A mesh has two axes. Batches are spread over 'data'. Parameters and the
optimizer's moments lie in parts, as a named set of rules says:

  fsdp        along their largest axis, over 'data'; gathered where a step uses
              them (fully sharded data parallel)
  tensor      the same, and attention heads, feed-forward units and vocabulary
              over 'model': no device ever has those whole (tensor parallel)
  replicated  whole on every device (data parallel)

Everything else, such as embedding blocks, uses whole parameters and spreads its
batches over all devices. On one device there is no mesh and nothing changes.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from realm_jax import hosts
from realm_jax.checks import check_at_least
from realm_jax.errors import UserError
from realm_jax.models.realm import RealmConfig, abstract_params, logical_axes

DATA, MODEL = 'data', 'model'


class Rules(NamedTuple):
  """How parameters are spread.

  Attributes:
    model_axes: logical axes that lie over 'model', where it divides them.
    fully_sharded: between uses, spread over 'data' as well.
  """

  model_axes: tuple[str, ...] = ()
  fully_sharded: bool = True


RULES = {
  'fsdp': Rules(),
  'tensor': Rules(model_axes=('heads', 'feed_forward', 'vocab')),
  'replicated': Rules(fully_sharded=False),
}


@dataclass(frozen=True)
class MeshConfig:
  """Over which devices a run is spread, and how.

  A run may be resumed with other settings: its results differ by no more than
  the rounding of sums taken in another order.

  Attributes:
    data: parts of a batch; 0 for as many as there are devices left.
    model: parts of a tensor-parallel parameter; 0 for as many as there are
      devices left. Needs rules 'tensor'.
    rules: 'fsdp', 'tensor' or 'replicated'.
  """

  data: int = 0
  model: int = 1
  rules: str = 'fsdp'

  def __post_init__(self):
    check_at_least(self, data=0, model=0)
    if self.rules not in RULES:
      raise UserError(
        f'MeshConfig.rules is {self.rules!r}, expected one of '
        f'{", ".join(RULES)}.'
      )
    if self.data == self.model == 0:
      raise UserError(
        'MeshConfig.data and MeshConfig.model are both 0, expected one of them '
        'to be a number of devices.'
      )
    if self.model != 1 and not RULES[self.rules].model_axes:
      raise UserError(
        f"MeshConfig.model is {self.model} with rules '{self.rules}', which "
        "spread nothing over it. Set MeshConfig.rules to 'tensor'."
      )


def mesh_sizes(config: MeshConfig, num_devices: int) -> dict[str, int]:
  """{axis: devices along it} of the mesh of so many devices.

  Raises:
    UserError: more devices are asked for than there are, or they cannot be
      divided so.
  """
  sizes = {DATA: config.data, MODEL: config.model}
  for name, other in ((DATA, MODEL), (MODEL, DATA)):
    if sizes[name] == 0:
      sizes[name], rest = divmod(num_devices, sizes[other])
      if rest and sizes[name]:
        raise UserError(
          f'MeshConfig.{other} is {sizes[other]}, which does not divide the '
          f'{num_devices} devices. Set MeshConfig.{name} as well, to use only '
          'some of them.'
        )
  sizes = {name: max(size, 1) for name, size in sizes.items()}
  if math.prod(sizes.values()) > num_devices:
    raise UserError(
      f'{_asked(sizes)}, but there are {num_devices}. Lower it, or set one of '
      'the two to 0 for what there is.'
    )
  return sizes


def _asked(sizes: dict[str, int]) -> str:
  return (
    f'MeshConfig asks for {math.prod(sizes.values())} devices (data '
    f'{sizes[DATA]}, model {sizes[MODEL]})'
  )


def make_mesh(
  config: MeshConfig, devices: Sequence[jax.Device] | None = None
) -> Mesh | None:
  """The mesh with axes 'data' and 'model'; None for one device.

  Args:
    config: sizes of the axes.
    devices: what there is; None for all of them. The first ones are used where
      fewer are asked for.

  Raises:
    UserError: more devices are asked for than there are, or they cannot be
      divided so.
  """
  devices = list(jax.devices() if devices is None else devices)
  sizes = mesh_sizes(config, len(devices))
  used = devices[: math.prod(sizes.values())]
  if len({device.process_index for device in used}) < jax.process_count():
    raise UserError(
      f'{_asked(sizes)}, but {len(devices)} devices of {jax.process_count()} '
      'processes are there, and each process must have some of those in use. '
      'Set one of the two to 0 for all of them.'
    )
  if len(used) == 1:
    return None
  return jax.make_mesh(
    (sizes[DATA], sizes[MODEL]),
    (DATA, MODEL),
    axis_types=(AxisType.Auto, AxisType.Auto),
    devices=used,
  )


def partition(
  names: Sequence[str],
  shape: Sequence[int],
  mesh: Mesh | AbstractMesh,
  rules: Rules,
) -> P:
  """Which axes of a parameter lie over which axes of the mesh.

  Args:
    names: of the parameter's axes, as models.realm.logical_axes has them.
    shape: of the parameter.
    mesh: axes that do not divide an axis of the parameter leave it whole.
    rules: at most one axis lies over 'model', and one over 'data', the largest
      of the others.
  """
  spec: list[str | None] = [None] * len(shape)
  num_model, num_data = mesh.shape[MODEL], mesh.shape[DATA]
  for axis, (name, size) in enumerate(zip(names, shape, strict=True)):
    divides = num_model > 1 and size % num_model == 0
    if name in rules.model_axes and divides and MODEL not in spec:
      spec[axis] = MODEL
  if rules.fully_sharded:
    others = [
      axis
      for axis, size in enumerate(shape)
      if spec[axis] is None and size % num_data == 0
    ]
    if others:
      spec[max(others, key=lambda axis: shape[axis])] = DATA
  return P(*spec)


class Layout:
  """Where the arrays of a run lie on a mesh.

  Attributes:
    mesh: with axes 'data' and 'model'.
    param_shapes: shape and dtype of each parameter.
    params: sharding of each parameter as the state keeps it.
    used_params: sharding of each parameter where a step uses it.
    whole: sharding of what every device has all of.
  """

  def __init__(self, mesh: Mesh, rules: Rules, model: RealmConfig):
    """Spreads the parameters of a model."""
    self.mesh = mesh
    self.whole = NamedSharding(mesh, P())
    axes = logical_axes(model)
    self.param_shapes = abstract_params(model)

    def spread(rules: Rules) -> Any:
      return jax.tree.map(
        lambda names, array: NamedSharding(
          mesh, partition(names, array.shape, mesh, rules)
        ),
        axes,
        self.param_shapes,
        is_leaf=lambda node: isinstance(node, P),
      )

    self.params = spread(rules)
    self.used_params = spread(rules._replace(fully_sharded=False))

  def place_params(self, params: Any) -> Any:
    """Parameters, of which this process has all, as the state keeps them."""

    def put(array: Any, sharding: NamedSharding) -> jax.Array:
      array = np.asarray(array)
      return jax.make_array_from_callback(
        array.shape, sharding, lambda part: array[part]
      )

    return jax.tree.map(put, params, self.params)

  def place_params_whole(self, params: Any) -> Any:
    """Parameters, however they lie, with all of them on every device.

    Args:
      params: as the state keeps them; or each process has all of them.
    """

    def put(array: Any) -> jax.Array:
      return self._put_whole(np.asarray(array), ())

    devices = set(self.mesh.devices.flat)
    leaves = jax.tree.leaves(params)
    if not all(
      isinstance(array, jax.Array) and array.sharding.device_set == devices
      for array in leaves
    ):
      return jax.tree.map(put, params)
    if all(array.is_fully_replicated for array in leaves):
      return params
    return self.replicate(params)

  @functools.cached_property
  def replicate(self) -> Callable:
    """A tree of arrays on the mesh -> the same, whole on every device."""
    # Moved one by one, each array would be compiled for.
    return jax.jit(lambda tree: tree, out_shardings=self.whole)

  def like_params(self, tree: Any) -> Any:
    """Shardings of a tree in which trees like the parameters occur.

    An array whose path ends in that of a parameter, such as a moment, lies as
    the parameter does; of any other every device has all.
    """
    shardings = dict(jax.tree_util.tree_leaves_with_path(self.params))

    def find(path: tuple, _: Any) -> NamedSharding:
      ends = (path[start:] for start in range(len(path)))
      return next((shardings[e] for e in ends if e in shardings), self.whole)

    return jax.tree_util.tree_map_with_path(find, tree)

  def gather(self, params: Any) -> Any:
    """Parameters as kept -> as used, within a jitted function."""
    return jax.lax.with_sharding_constraint(params, self.used_params)

  def place(self, batch: Any) -> Any:
    """A batch of which each process has its own rows, spread over 'data'.

    Args:
      batch: a tree of numpy arrays with the rows that OwnRows says, and of
        arrays that are on devices already, of all rows. What 'data' does not
        divide, such as the null document, is whole everywhere; several
        processes have it through OwnRows.whole.

    Raises:
      ValueError: of several processes, this one has rows that its devices do
        not divide.
    """
    own_parts = self.mesh.local_mesh.shape[DATA]

    def put(array: Any) -> jax.Array:
      if isinstance(array, jax.Array):
        return self._move(array, self._rows(array.shape, (DATA,)))
      array = np.asarray(array)
      if not hosts.are_several() or not array.ndim:
        return self._put_whole(array, (DATA,))
      if len(array) % own_parts:
        raise ValueError(
          f'{len(array)} rows of a batch do not spread evenly over the '
          f'{own_parts} parts of it that lie on devices of this process.'
        )
      return jax.make_array_from_process_local_data(
        NamedSharding(self.mesh, P(DATA)), array
      )

    return jax.tree.map(put, batch)

  def place_whole(
    self, batch: Any, axes: tuple[str, ...] = (DATA, MODEL)
  ) -> Any:
    """A batch of which each process has all rows, on the mesh.

    Args:
      batch: a tree of arrays.
      axes: of the mesh, over which the first axis of each array is spread;
        fewer, from the front, where they do not divide it.
    """

    def put(array: Any) -> jax.Array:
      if isinstance(array, jax.Array):
        return self._move(array, self._rows(array.shape, axes))
      return self._put_whole(np.asarray(array), axes)

    return jax.tree.map(put, batch)

  def _move(self, array: jax.Array, sharding: NamedSharding) -> jax.Array:
    if array.sharding.is_equivalent_to(sharding, array.ndim):
      return array  # device_put would compile, if other processes take part
    return jax.device_put(array, sharding)

  def _put_whole(self, array: np.ndarray, axes: tuple[str, ...]) -> jax.Array:
    return jax.make_array_from_callback(
      array.shape, self._rows(array.shape, axes), lambda part: array[part]
    )

  def _rows(
    self, shape: tuple[int, ...], axes: tuple[str, ...]
  ) -> NamedSharding:
    """Of all rows over as many of the axes as divide them."""
    while shape and axes:
      num_parts = math.prod(self.mesh.shape[axis] for axis in axes)
      if shape[0] > 1 and shape[0] % num_parts == 0:
        return NamedSharding(self.mesh, P(axes))
      axes = axes[:-1]
    return self.whole


def make_layout(
  config: MeshConfig | None,
  model: RealmConfig,
  devices: Sequence[jax.Device] | None = None,
) -> Layout | None:
  """The layout of a run; None for one device.

  Args:
    config: see MeshConfig; None for one device, or, of several processes, for
      all devices.
    model: whose parameters are spread.
    devices: as make_mesh has them.

  Raises:
    UserError: there are not enough devices, they do not divide the model, or
      several processes do not have a part in the mesh each, or other settings.
  """
  if hosts.are_several():
    config = config or MeshConfig()
    hosts.check_same('MeshConfig', asdict(config))
  mesh = None if config is None else make_mesh(config, devices)
  if config is None or mesh is None:
    return None
  check_model(mesh.shape[MODEL], model)
  return Layout(mesh, RULES[config.rules], model)


def check_model(num_parts: int, model: RealmConfig) -> None:
  """Raises UserError if so many parts over 'model' do not divide a model."""
  for name in ('num_heads', 'feed_forward_size'):
    size = getattr(model.encoder, name)
    if size % num_parts:
      raise UserError(
        f'MeshConfig.model is {num_parts}, expected a divisor of '
        f'EncoderConfig.{name}, which is {size}.'
      )


def check_batch(
  mesh: Layout | dict[str, int] | None,
  name: str,
  batch_size: int,
  num_microbatches: int = 1,
) -> None:
  """Raises UserError if a batch does not spread evenly over the mesh.

  Args:
    mesh: its layout, or the sizes of its axes; None, for one device, takes any
      batch.
    name: of the setting, for the message.
    batch_size: its value.
    num_microbatches: parts that it is split into, each of which is spread.
  """
  if mesh is None:
    return
  num_parts = (mesh.mesh.shape if isinstance(mesh, Layout) else mesh)[DATA]
  if batch_size % (num_parts * num_microbatches):
    split = (
      f', for each of num_microbatches, which is {num_microbatches}'
      if num_microbatches > 1
      else ''
    )
    raise UserError(
      f'{name} is {batch_size}, expected a multiple of '
      f'{num_parts * num_microbatches}: {num_parts} parts that MeshConfig.data '
      f'divides a batch into{split}.'
    )


def jit_spread(function: Callable, layout: Layout | None) -> Callable:
  """Jits function(params, batch) that is no training step.

  On a mesh it has whole parameters, its batch is spread over all devices, and
  what it returns is whole on every device. Of numpy arrays each process has all
  rows; what Layout.place gives will do as well.
  """
  if layout is None:
    return jax.jit(function)

  @functools.partial(jax.jit, out_shardings=layout.whole)
  def spread(params: Any, batch: Any) -> Any:
    params = jax.lax.with_sharding_constraint(params, layout.whole)
    return function(params, batch)

  def call(params: Any, batch: Any) -> Any:
    return spread(params, layout.place_whole(batch))

  return call
