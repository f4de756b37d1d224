"""One per-device function, mapped over the devices: by ``shard_map`` or by ``pmap``, the function is the same.

Two kinds of values pass: *replicated* ones (state, variables, metrics), which every device holds whole, and *split*
ones (batches, predictions), whose axis 0 is cut into equal parts, devices one after another. Inside the mapped
function collectives name ``AXIS``.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "devices"

T = TypeVar("T")

REPLICATED = "replicated"
SPLIT = "split"


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of this process and how functions are mapped over them.

    Attributes:
      mapping: ``shard_map`` or ``pmap`` (``Config.mapping``).
      devices: the devices, in the order in which batches are cut.
    """

    mapping: str
    devices: tuple[Any, ...]

    @classmethod
    def local(cls, mapping: str, devices: Sequence[Any] | None = None) -> Devices:
        """All devices that JAX sees, or those given."""
        return cls(mapping, tuple(jax.local_devices() if devices is None else devices))

    @property
    def count(self) -> int:
        """How many devices there are."""
        return len(self.devices)

    @property
    def kind(self) -> str:
        """What the devices are, for a person."""
        return str(self.devices[0].device_kind)

    def _sharding(self, kind: str) -> NamedSharding:
        mesh = jax.make_mesh((self.count,), (AXIS,), axis_types=(AxisType.Auto,), devices=self.devices)
        return NamedSharding(mesh, P(AXIS) if kind == SPLIT else P())

    def replicate(self, tree: Any) -> Any:
        """Host values, a copy on every device."""
        if self.mapping == "pmap":
            stacked = jax.tree.map(lambda x: np.broadcast_to(x, (self.count, *np.shape(x))), tree)
            return jax.device_put(stacked, self._sharding(SPLIT))
        return jax.device_put(tree, self._sharding(REPLICATED))

    def split(self, tree: Any) -> Any:
        """Host arrays, cut along axis 0 over the devices."""
        if self.mapping == "pmap":
            tree = jax.tree.map(lambda x: x.reshape(self.count, x.shape[0] // self.count, *x.shape[1:]), tree)
        return jax.device_put(tree, self._sharding(SPLIT))

    def place(self, tree: Any, kinds: Any) -> Any:
        """Host values on the devices; ``kinds`` is one, or a tree of them that ``tree`` or parts of it hang on."""
        ways = {REPLICATED: self.replicate, SPLIT: self.split}
        return jax.tree.map(lambda kind, part: ways[kind](part), kinds, tree)

    def ahead(self, items: Iterable[T], arrays: Callable[[T], Any], depth: int = 2) -> Iterator[tuple[T, Any]]:
        """Items with their arrays on the devices, ``depth`` of them put there ahead: copies overlap computation."""
        waiting: deque[tuple[T, Any]] = deque()
        for item in items:
            waiting.append((item, self.split(arrays(item))))
            if len(waiting) > depth:
                yield waiting.popleft()
        yield from waiting

    def fetch(self, tree: Any, kind: Any = REPLICATED) -> Any:
        """Values of the devices as host arrays: one copy of replicated ones, split ones put together.

        ``kind`` can be a tree of kinds, as in ``place``.
        """
        if not isinstance(kind, str):
            return jax.tree.map(lambda kind, part: self.fetch(part, kind), kind, tree)
        host = jax.device_get(tree)
        if self.mapping == "shard_map":
            return host
        if kind == REPLICATED:
            return jax.tree.map(lambda x: x[0], host)
        return jax.tree.map(lambda x: np.reshape(x, (-1, *x.shape[2:])), host)

    def map(
        self, function: Callable[..., Any], takes: Sequence[Any], gives: Sequence[Any], donate: Sequence[int] = ()
    ) -> Callable[..., Any]:
        """Compile ``function`` for every device.

        Args:
          function: works on one device's part; returns a tuple.
          takes: kind of each argument, ``REPLICATED`` or ``SPLIT``, or a tree of kinds, as in ``place``.
          gives: kind of each element of the result. What is said to be replicated must be (psum or pmean it).
          donate: arguments whose memory the result may reuse.
        """
        if self.mapping == "pmap":
            return jax.pmap(function, axis_name=AXIS, devices=list(self.devices), donate_argnums=tuple(donate))
        mesh = self._sharding(REPLICATED).mesh
        specs = {REPLICATED: P(), SPLIT: P(AXIS)}.__getitem__
        # check_vma would insert its own psum into gradients: they would come out device-count times too big.
        mapped = jax.shard_map(
            function,
            mesh=mesh,
            in_specs=jax.tree.map(specs, tuple(takes)),
            out_specs=jax.tree.map(specs, tuple(gives)),
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=tuple(donate))
