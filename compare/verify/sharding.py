"""Data parallelism and sharded parameters in JAX: one batch over several devices, in one process or many.

The loss is the same function as on a single device. Its arguments are arrays on a mesh of devices, each of which has a
part of the examples. XLA's partitioner inserts the communication: for a gradient, a sum over all devices (all-reduce).

If the examples do not divide evenly, the batch is padded at the end, and the compiled program removes the padding
before it calls the loss. So means and batch normalization are those of the batch without padding.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import autodiff.training
from compare.errors import BadInput
from compare.platform import precise

EXAMPLES = "examples"


def mesh_of(count: int | None = None) -> Mesh:
    """A mesh of the first `count` devices of all processes, or of all devices.

    Raises:
        BadInput: if there are fewer devices.
    """
    devices = jax.devices()
    if count is not None and not 1 <= count <= len(devices):
        kind = devices[0].platform
        hint = (
            " On a CPU, XLA_FLAGS=--xla_force_host_platform_device_count=N makes N devices of it."
            if kind == "cpu"
            else ""
        )
        raise BadInput(f"{count} devices were requested, and JAX has {len(devices)} ({kind}).{hint}")
    return Mesh(np.array(devices[:count]), (EXAMPLES,))


@dataclass(frozen=True)
class Split:
    """How `count` examples along `axis` are distributed over `mesh`: in equal parts, padded at the end."""

    mesh: Mesh
    count: int
    axis: int = 0

    @property
    def each(self) -> int:
        """The number of examples on each device."""
        return -(-self.count // self.mesh.size)

    def own(self) -> slice:
        """The examples that this process must load, which are those of its devices."""
        places = [i for i, device in enumerate(self.mesh.devices.flat) if device.process_index == jax.process_index()]
        if not places:
            return slice(0, 0)
        return slice(min(self.count, places[0] * self.each), min(self.count, (places[-1] + 1) * self.each))

    def load(self, own: np.ndarray) -> jax.Array:
        """The array of all examples on the devices; `own` are those of this process, `whole[..., split.own()]`."""
        wanted = self.own()
        if own.shape[self.axis] != wanted.stop - wanted.start:
            raise ValueError(
                f"this process must load examples {wanted.start} to {wanted.stop} of {self.count}, which are "
                f"{wanted.stop - wanted.start}; got {own.shape[self.axis]} along axis {self.axis}."
            )
        local = sum(device.process_index == jax.process_index() for device in self.mesh.devices.flat)
        widths = [(0, 0)] * own.ndim
        widths[self.axis] = (0, local * self.each - own.shape[self.axis])
        shape = list(own.shape)
        shape[self.axis] = self.mesh.size * self.each
        return jax.make_array_from_process_local_data(self._sharding(own.ndim), np.pad(own, widths), tuple(shape))

    def cut(self, whole: jax.Array) -> jax.Array:
        """`whole` without the padding, still distributed; for use inside a compiled program."""
        if whole.shape[self.axis] == self.count:
            return whole
        kept = jax.lax.slice_in_dim(whole, 0, self.count, axis=self.axis)
        return jax.lax.with_sharding_constraint(kept, self._sharding(whole.ndim))

    def _sharding(self, rank: int) -> NamedSharding:
        axes: list[str | None] = [None] * rank
        axes[self.axis] = EXAMPLES
        return NamedSharding(self.mesh, PartitionSpec(*axes))


def split_loss(loss: Callable[..., Any], split: Split) -> Callable[..., Any]:
    """`loss(parameters, *batch)` for a batch that `split.load` has put on the devices."""

    def whole(parameters: Any, *batch: Any) -> Any:
        return loss(parameters, *(split.cut(array) for array in batch))

    return whole


def replicate(mesh: Mesh, tree: Any) -> Any:
    """The tree with a copy of each leaf on every device."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: _placed(np.asarray(leaf), everywhere), tree)


def shard_parameters(mesh: Mesh, tree: Any) -> Any:
    """The tree with a part of each leaf on every device, for models that are too large for one device.

    A leaf is split along its largest axis that divides evenly, or replicated if there is none. Source:
    Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models", 2020, stage 3.
    """
    return jax.tree.map(lambda leaf: _placed(np.asarray(leaf), _along_largest(mesh, np.shape(leaf))), tree)


def _along_largest(mesh: Mesh, shape: Sequence[int]) -> NamedSharding:
    even = [axis for axis, n in enumerate(shape) if n and n % mesh.size == 0]
    axes: list[str | None] = [None] * len(shape)
    if even:
        axes[max(even, key=lambda axis: shape[axis])] = EXAMPLES
    return NamedSharding(mesh, PartitionSpec(*axes))


def _placed(leaf: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """A whole leaf, which every process has, distributed over the devices."""
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])


def gathered(tree: Any) -> Any:
    """Distributed arrays as whole NumPy arrays, in every process."""

    def whole(leaf: jax.Array) -> np.ndarray:
        if leaf.is_fully_addressable or leaf.is_fully_replicated:
            return np.asarray(leaf)
        everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())  # type: ignore[attr-defined]  # it has one
        return np.asarray(jax.jit(lambda value: value, out_shardings=everywhere)(leaf))

    return jax.tree.map(whole, tree)


@dataclass(frozen=True)
class Parallel:
    """A loss whose batches are distributed over the devices of a mesh.

    Every process passes the whole batch, a tuple of arrays, and the whole parameters. Results are whole NumPy arrays in
    every process.

    Attributes:
        loss: `(parameters, *batch) -> loss`.
        mesh: the devices.
        axis: the axis of the examples in every array of a batch.
        shard: whether parameters, gradients and optimizer states are distributed as well.
    """

    loss: Callable[..., Any]
    mesh: Mesh
    axis: int = 0
    shard: bool = False

    def loss_and_gradients(self, parameters: Any, *batch: Any) -> tuple[Any, Any]:
        """`jax.value_and_grad(loss)`, computed on all devices."""
        split = self._split(batch)
        with precise(parameters, batch):
            compiled = _compiled(self.loss, split, self.shard)
            return gathered(compiled(self._placed(parameters), *self._loaded(split, batch)))

    def train(
        self, parameters: Any, batches: Iterable[tuple[Any, ...]], optimizer: Any, *, state: Any = None
    ) -> tuple[Any, Any, np.ndarray]:
        """`autodiff.training.train` on all devices, on which parameters and state stay until the end.

        Batches may differ in size. A program is compiled for each size.

        Args:
            parameters: the initial parameters.
            batches: tuples of arrays.
            optimizer: one of `autodiff.optimizers`.
            state: the state of the optimizer; None to initialize it.

        Returns:
            (parameters, state, losses), with the losses of all steps in one array.
        """
        with precise(parameters):
            parameters = self._placed(parameters)
            state = self._placed(optimizer.initialize(parameters) if state is None else state)
            losses = []
            for split, some in groupby(batches, self._split):
                loaded = (self._loaded(split, batch) for batch in some)
                function = _value_and_grad(self.loss, split, self.shard)
                for part in self._in_flight(loaded):
                    trained = autodiff.training.train(function, parameters, part, optimizer, state=state)
                    parameters, state, more = jax.block_until_ready(trained)
                    losses.append(np.asarray(more))
            return *gathered((parameters, state)), np.concatenate(losses)

    def _in_flight(self, batches: Iterable[Any]) -> Iterable[Iterable[Any]]:
        """The batches in groups whose steps may run at the same time: all, or one each if a CPU is several devices.

        On such a CPU, each device of each running step holds a thread while it waits for the other devices. With
        several steps at once there may be fewer threads than devices that wait, which is a deadlock.
        """
        several = self.mesh.size > 1 and self.mesh.devices.flat[0].platform == "cpu"
        return ([batch] for batch in batches) if several else [batches]

    def _split(self, batch: tuple[Any, ...]) -> Split:
        return Split(self.mesh, np.shape(batch[0])[self.axis], self.axis)

    def _placed(self, tree: Any) -> Any:
        return (shard_parameters if self.shard else replicate)(self.mesh, tree)

    def _loaded(self, split: Split, batch: tuple[Any, ...]) -> tuple[jax.Array, ...]:
        own = np.arange(split.count)[split.own()]
        return tuple(split.load(np.take(np.asarray(array), own, self.axis)) for array in batch)


@lru_cache(maxsize=64)
def _value_and_grad(loss: Callable[..., Any], split: Split, shard: bool) -> Callable[..., Any]:
    """The loss and its gradients as a function of the parameters and the distributed batch.

    It is cached, because JAX finds its compiled programs by the identity of the function.
    """

    def loss_and_gradients(parameters: Any, *batch: Any) -> tuple[Any, Any]:
        value, gradients = jax.value_and_grad(split_loss(loss, split))(parameters, *batch)
        if shard:
            gradients = jax.tree.map(
                lambda g: jax.lax.with_sharding_constraint(g, _along_largest(split.mesh, g.shape)), gradients
            )
        return value, gradients

    return loss_and_gradients


@lru_cache(maxsize=64)
def _compiled(loss: Callable[..., Any], split: Split, shard: bool) -> Callable[..., Any]:
    return jax.jit(_value_and_grad(loss, split, shard))
