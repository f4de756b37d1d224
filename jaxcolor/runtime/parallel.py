"""One per-device function, mapped over the devices: by ``shard_map`` or by ``pmap``, the function is the same.

Two kinds of values pass: *replicated* ones (state, variables, metrics), which every device holds whole, and *split*
ones (batches, predictions), whose axis 0 is cut into equal parts, devices one after another. Inside the mapped
function collectives name ``AXIS``.

With several processes (hosts of a pod, nodes of a cluster) the devices are those of all of them, ordered by process;
each process runs the same program, hands in and gets back its own devices' part of split values, and replicated
values must be the same everywhere.
"""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxcolor.runtime.compile_options import graph_options, shardings

AXIS = "devices"

T = TypeVar("T")

REPLICATED = "replicated"
SPLIT = "split"


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of all processes and how functions are mapped over them.

    Attributes:
      mapping: ``shard_map`` or ``pmap`` (``Config.mapping``).
      devices: the devices, in the order in which batches are cut.
    """

    mapping: str
    devices: tuple[Any, ...]

    @classmethod
    def all(cls, mapping: str, devices: Sequence[Any] | None = None) -> Devices:
        """All devices that JAX sees, in all processes, or those given; ordered by process."""
        found = jax.devices() if devices is None else devices
        return cls(mapping, tuple(sorted(found, key=lambda device: device.process_index)))

    @property
    def count(self) -> int:
        """How many devices there are."""
        return len(self.devices)

    @property
    def processes(self) -> tuple[int, ...]:
        """Those that have devices here, in the devices' order."""
        return tuple(sorted({device.process_index for device in self.devices}))

    @property
    def process_index(self) -> int:
        """This process's place among them."""
        return self.processes.index(jax.process_index())

    @property
    def process_count(self) -> int:
        """How many processes there are."""
        return len(self.processes)

    @property
    def local_count(self) -> int:
        """How many devices are this process's."""
        return sum(device.process_index == jax.process_index() for device in self.devices)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that logs and writes."""
        return self.process_index == 0

    @property
    def kind(self) -> str:
        """What the devices are, for a person."""
        return str(self.devices[0].device_kind)

    def _sharding(self, kind: str) -> NamedSharding:
        # Not jax.make_mesh, which may change the order to suit a TPU's wiring: batches are laid out in ours.
        mesh = Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        return NamedSharding(mesh, P(AXIS) if kind == SPLIT else P())

    def _put(self, tree: Any, kind: str) -> Any:
        sharding = self._sharding(kind)
        if self.process_count == 1:
            return jax.device_put(tree, sharding)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)

    def replicate(self, tree: Any) -> Any:
        """Host values, a copy on every device."""
        if self.mapping == "pmap":
            stacked = jax.tree.map(lambda x: np.broadcast_to(x, (self.local_count, *np.shape(x))), tree)
            return self._put(stacked, SPLIT)
        return self._put(tree, REPLICATED)

    def replicate_frozen(self, variables: Any) -> Any:
        """As ``replicate``, for variables that no step changes: where they can, kernels lie as they are read."""
        if self.mapping == "pmap" or self.process_count > 1:
            return self.replicate(variables)
        return jax.device_put(variables, shardings(variables, self._sharding(REPLICATED)))

    def split(self, tree: Any) -> Any:
        """Host arrays, cut along axis 0 over this process's devices."""
        if self.mapping == "pmap":
            count = self.local_count
            tree = jax.tree.map(lambda x: x.reshape(count, x.shape[0] // count, *x.shape[1:]), tree)
        return self._put(tree, SPLIT)

    def say(self, text: str) -> None:
        """Print a line, once for all processes."""
        if self.is_first:
            print(text, flush=True)

    def ahead(self, items: Iterable[T], arrays: Callable[[T], Any], depth: int = 2) -> Iterator[tuple[T, Any]]:
        """Items with their arrays on the devices, ``depth`` of them put there ahead: copies overlap computation."""
        waiting: deque[tuple[T, Any]] = deque()
        for item in items:
            waiting.append((item, self.split(arrays(item))))
            if len(waiting) > depth:
                yield waiting.popleft()
        yield from waiting

    def fetch(self, tree: Any, kind: str = REPLICATED) -> Any:
        """Values of the devices as host arrays: one copy of replicated ones; of split ones this process's part."""
        host = jax.tree.map(_local, tree) if self.process_count > 1 else jax.device_get(tree)
        if self.mapping == "shard_map":
            return host
        if kind == REPLICATED:
            return jax.tree.map(lambda x: x[0], host)
        return jax.tree.map(lambda x: np.reshape(x, (-1, *x.shape[2:])), host)

    def fetch_whole(self, tree: Any) -> Any:
        """Split values of the devices as host arrays, those of all processes; all of them must call it."""
        part = self.fetch(tree, SPLIT)
        if self.process_count == 1:
            return part
        return jax.tree.map(lambda x: np.asarray(multihost_utils.process_allgather(x, tiled=True)), part)

    def gather(self, value: Any) -> list[Any]:
        """What each process has, as every process's list. JSON types; all processes must call it.

        Floats arrive as they are, to the last bit, NaN included.
        """
        if self.process_count == 1:
            return [value]
        data = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = multihost_utils.process_allgather(np.int64(len(data)))
        padded = np.zeros(int(lengths.max()), np.uint8)
        padded[: len(data)] = data
        rows = multihost_utils.process_allgather(padded)
        return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths.tolist(), strict=True)]

    def total(self, tree: Any) -> Any:
        """Host arrays added up over the processes, in their own type; all must call it."""
        if self.process_count == 1:
            return tree

        def added(part: Any) -> np.ndarray:
            own = np.asarray(part)
            # As bytes: on its way through JAX float64 would become float32.
            rows = multihost_utils.process_allgather(np.frombuffer(own.tobytes(), np.uint8))
            return np.stack([np.frombuffer(row.tobytes(), own.dtype).reshape(own.shape) for row in rows]).sum(axis=0)

        return jax.tree.map(added, tree)

    def map(
        self,
        function: Callable[..., Any],
        in_specs: Sequence[str],
        out_specs: Sequence[str],
        donate: Sequence[int] = (),
        cuda_graphs: bool = False,
    ) -> Callable[..., Any]:
        """Compile ``function`` for every device.

        Args:
          function: works on one device's part; returns a tuple.
          in_specs: kind of each argument, ``REPLICATED`` or ``SPLIT``.
          out_specs: kind of each element of the result. What is said to be replicated must be (psum or pmean it).
          donate: arguments whose memory the result may reuse.
          cuda_graphs: as in ``Config``.

        Raises:
          ValueError: ``cuda_graphs`` with ``jax.pmap``, which passes no options on.
        """
        if self.mapping == "pmap":
            if cuda_graphs:
                raise ValueError("jax.pmap compiles without options: no cuda_graphs")
            return jax.pmap(function, axis_name=AXIS, devices=list(self.devices), donate_argnums=tuple(donate))
        mesh = self._sharding(REPLICATED).mesh
        specs = {REPLICATED: P(), SPLIT: P(AXIS)}.__getitem__
        # check_vma would insert its own psum into gradients: they would come out device-count times too big.
        mapped = jax.shard_map(
            function,
            mesh=mesh,
            in_specs=tuple(map(specs, in_specs)),
            out_specs=tuple(map(specs, out_specs)),
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=tuple(donate), compiler_options=graph_options(cuda_graphs, self.devices))


def _local(array: Any) -> Any:
    """The part of an array that this process's devices hold, in their order; of a replicated one a copy."""
    if not isinstance(array, jax.Array):
        return np.asarray(array)
    if array.is_fully_replicated:
        return np.asarray(array.addressable_data(0))
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
