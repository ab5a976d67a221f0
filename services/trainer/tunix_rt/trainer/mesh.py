"""How the arrays of a run lie on its devices: rows over all of them, parameters over some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tunix_rt.lm.divided import Part
from tunix_rt.lm.model import Decoder
from tunix_rt.lm.recomputation import compile_options
from tunix_rt.trainer.sharding_settings import ShardingSettings, mesh_shape

DATA, FSDP = "data", "fsdp"
_BOTH = (DATA, FSDP)
_ROWS = PartitionSpec(_BOTH)  # type: ignore[no-untyped-call]
_EVERYWHERE = PartitionSpec()  # type: ignore[no-untyped-call]

Tree = Any
Arrays = Mapping[str, Any]
LossOf = Callable[..., tuple[jax.Array, Any]]


@dataclass(frozen=True)
class Spread:
    """The devices of a run as a mesh of `data` × `fsdp`; on one device nothing is divided.

    The rows of a batch are divided among all devices. A matrix, and what the optimizer keeps for it, is
    divided among those of `fsdp` along its largest axis that their number divides, else each has all of
    it. Each device computes the loss and the gradient of its own rows with the layer's matrices
    collected when they are read, as in Zhao et al. 2023, arXiv 2304.11277.
    """

    mesh: Mesh

    @classmethod
    def of(cls, settings: ShardingSettings, devices: Sequence[jax.Device]) -> Spread:
        """The first `data` × `fsdp` of the devices. Raises TrainingFailure when they do not suffice."""
        data, fsdp = mesh_shape(settings, len(devices))
        return cls(Mesh(np.asarray(devices[: data * fsdp]).reshape(data, fsdp), _BOTH))

    @classmethod
    def of_one(cls) -> Spread:
        """The first device."""
        return cls.of(ShardingSettings(), jax.devices()[:1])

    @property
    def alone(self) -> bool:
        """Whether there is one device only."""
        return self.size == 1

    @property
    def size(self) -> int:
        """The number of devices."""
        return int(self.mesh.size)

    @property
    def fsdp(self) -> int:
        """Among how many devices a matrix is divided."""
        return int(self.mesh.shape[FSDP])

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes the run's files."""
        return jax.process_index() == 0

    def compile_options(self, *, gradient: bool) -> dict[str, str | bool]:
        """What XLA has to be told; on several CPUs, not to begin a layer before the one before it ends."""
        if self.alone:
            return compile_options() if gradient else {}
        if self.mesh.devices.flat[0].platform != "cpu":
            return compile_options()
        return compile_options() | {"xla_cpu_enable_concurrency_optimized_scheduler": False}

    @property
    def text(self) -> str:
        """The mesh and its processes, such as `data 2, fsdp 4, processes 1`."""
        sizes = {**self.mesh.shape, "processes": jax.process_count()}
        return ", ".join(f"{name} {size}" for name, size in sizes.items())

    def facts(self) -> dict[str, Any]:
        """What a run's facts say of its devices."""
        return {
            "devices": self.size,
            "mesh": {name: int(size) for name, size in self.mesh.shape.items()},
            "processes": jax.process_count(),
        }

    def loading(self) -> AbstractContextManager[Any]:
        """In it, new arrays lie in the host's memory, because one device may not hold all of them."""
        if self.alone:
            return nullcontext()
        host: AbstractContextManager[Any] = jax.default_device(jax.local_devices(backend="cpu")[0])
        return host

    def shardings(self, tree: Tree) -> Tree:
        """Where the arrays of a tree of parameters or optimizer state lie."""
        return jax.tree.map(lambda leaf: NamedSharding(self.mesh, divided(leaf.shape, self.fsdp)), tree)

    def shaped(self, tree: Tree) -> Tree:
        """The tree's shapes and where they lie, to compile for; nothing is made."""
        if self.alone:
            return tree
        return jax.tree.map(_shape, tree, self.shardings(tree))

    def placed(self, tree: Tree) -> Tree:
        """A tree of parameters or optimizer state, laid on the devices."""
        return tree if self.alone else jax.tree.map(_put, tree, self.shardings(tree))

    def made(self, make: Callable[[Tree], Tree], tree: Tree) -> Tree:
        """What `make` makes of a placed tree, laid on the devices as it arises."""
        if self.alone:
            return make(tree)
        return jax.jit(make, out_shardings=self.shardings(jax.eval_shape(make, tree)))(tree)

    def placed_rows(self, arrays: Arrays) -> Arrays:
        """A batch's arrays, whose axis of rows is divided among all devices; each process gives its part.

        It is the first one, or the second one behind an axis of micro-batches.
        """
        if self.alone:
            return arrays
        behind = [None] * (arrays["tokens"].ndim - 2)
        rows = NamedSharding(self.mesh, PartitionSpec(*behind, _BOTH))  # type: ignore[no-untyped-call]
        placed: Arrays = jax.tree.map(partial(_put, sharding=rows), arrays)
        return placed

    def everywhere(self, tree: Tree) -> Tree:
        """Numbers and small arrays that every device has."""
        if self.alone:
            return tree
        return jax.tree.map(partial(_put, sharding=NamedSharding(self.mesh, _EVERYWHERE)), tree)

    def collected(self, tree: Tree) -> Tree:
        """The tree's arrays whole and in the host's memory, one at a time; all processes take part."""
        return tree if self.alone else jax.tree.map(self._collected, tree)

    def _collected(self, leaf: jax.Array) -> np.ndarray:
        if leaf.is_fully_addressable and not leaf.is_fully_replicated:
            return np.asarray(leaf)
        # A copy, because a view of a buffer would keep it from being donated to the next step.
        whole = NamedSharding(self.mesh, _EVERYWHERE)
        return np.asarray(jax.jit(jnp.copy, out_shardings=whole)(leaf))

    def marked(self, model: Decoder) -> Decoder:
        """The model, each of whose variables that is to be divided knows its axis, for `opened`."""
        for _, variable in nnx.iter_graph(model):
            if isinstance(variable, nnx.Variable):
                axis = divided_axis(variable.shape, self.fsdp)
                if axis is not None:
                    variable.set_metadata(whole_axis=axis)
        return model

    def graded(self, loss_of: LossOf) -> Callable[..., tuple[Any, Tree]]:
        """`jax.value_and_grad` of a function of (trained, frozen, arrays, key) by the first, over all rows.

        Each device computes it with its own rows; what is given is the sum over the devices.
        """
        graded = jax.value_and_grad(loss_of, has_aux=True)
        if self.alone:
            return graded
        return self._mapped(graded, gives=lambda trained: (_EVERYWHERE, self._specs(trained)))

    def summed(self, loss_of: LossOf) -> LossOf:
        """The function of (trained, frozen, arrays) over all rows, as the sum over the devices."""
        if self.alone:
            return loss_of
        return self._mapped(loss_of, gives=lambda _: _EVERYWHERE)

    def _mapped(self, local: Callable[..., Any], *, gives: Callable[[Tree], Any]) -> Callable[..., Any]:
        """The function of (trained, frozen, arrays, *key) on every device with its own rows."""

        def run(trained: Tree, frozen: Tree, arrays: Arrays, *key: jax.Array) -> Any:
            out_specs = gives(trained)
            mapped: Callable[..., Any] = jax.shard_map(
                lambda trained, frozen, arrays, *key: _summed(
                    local(trained, frozen, _own(arrays), *key), out_specs
                ),
                mesh=self.mesh,
                in_specs=(self._specs(trained), self._specs(frozen), _ROWS, *(_EVERYWHERE for _ in key)),
                out_specs=out_specs,
                check_vma=False,  # not every operation says over which axes its result varies
            )
            return mapped(trained, frozen, arrays, *key)

        return run

    def _specs(self, tree: Tree) -> Tree:
        return jax.tree.map(lambda leaf: divided(leaf.shape, self.fsdp), tree)


def opened(model: Decoder) -> Decoder:
    """A device's part of a marked model, as a model that collects a matrix whenever it is read."""
    for _, module in list(nnx.iter_graph(model)):
        for name, variable in list(vars(module).items()) if isinstance(module, nnx.Module) else ():
            if isinstance(variable, nnx.Variable) and variable.has_metadata("whole_axis"):
                axis = variable.get_metadata("whole_axis")
                setattr(module, name, Part(variable.get_value(), whole_axis=axis, mesh_axis=FSDP))
    return model


def divided_axis(shape: Sequence[int], fsdp: int) -> int | None:
    """The axis along which an array is divided among `fsdp` devices; None where each has all of it."""
    fitting = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if fsdp == 1 or len(shape) < 2 or not fitting:
        return None
    return max(fitting, key=lambda axis: (shape[axis], -axis))


def divided(shape: Sequence[int], fsdp: int) -> PartitionSpec:
    """The axis of the mesh that each axis of an array is divided along."""
    axis = divided_axis(shape, fsdp)
    names = (FSDP if index == axis else None for index in range(len(shape)))
    return PartitionSpec(*names)  # type: ignore[no-untyped-call]


def _put(array: Any, sharding: NamedSharding) -> jax.Array:
    """A host array on the devices; only the parts of this process's devices are copied."""
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _shape(leaf: Any, sharding: NamedSharding) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)  # type: ignore[no-untyped-call]


def _own(arrays: Arrays) -> Arrays:
    """A device's arrays; what was gathered for each device has an axis more, of size 1."""
    return {**arrays, "gathered": jax.tree.map(lambda leaf: jnp.squeeze(leaf, 0), arrays["gathered"])}


def _summed(values: Tree, specs: Tree) -> Tree:
    """Sums over the devices; those of divided arrays were made over `fsdp` when they were collected."""

    def total(spec: PartitionSpec, value: Tree) -> Tree:
        return jax.lax.psum(value, DATA if FSDP in spec else _BOTH)  # type: ignore[no-untyped-call]

    return jax.tree.map(total, specs, values, is_leaf=lambda leaf: isinstance(leaf, PartitionSpec))
