"""Where the state of a stage lies: whole on the host, and on the devices as the step wants it.

On the host, and so in checkpoints, the state knows nothing of devices: a run can go on with another number of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training.step import TrainState


class Placement:
    """The way of a stage's state to the devices and back.

    With ``Config.shard_optimizer``, what the optimizer keeps for each parameter lies there in parts, as
    ``layout.SHARDED`` has them: flat, filled up with zeros, cut.

    Attributes:
      kinds: kinds of the state on the devices, for ``Devices.map``.
    """

    def __init__(self, devices: Devices, like: TrainState, shard_optimizer: bool) -> None:
        """For states like ``like``."""
        self._devices = devices
        self._shapes: dict[str, tuple[int, ...]] = {}
        """Of the parameters by name; none where nothing is cut."""
        self.kinds: Any = REPLICATED
        if shard_optimizer:
            params = traverse_util.flatten_dict(like.variables["params"], sep="/")
            self._shapes = {name: np.shape(array) for name, array in params.items()}
            kinds = jax.tree_util.tree_map_with_path(
                lambda path, _: SPLIT if self._name(path) else REPLICATED, like.opt_state
            )
            self.kinds = TrainState(step=REPLICATED, variables=REPLICATED, opt_state=kinds)

    def put(self, state: TrainState) -> Any:
        """A state of the host, on the devices."""
        return self._devices.place(self._reshaped(state, self._filled), self.kinds)

    def fetch(self, on_device: Any) -> TrainState:
        """The way back."""
        return self._reshaped(self._devices.fetch(on_device, self.kinds), self._whole)

    def _reshaped(self, state: TrainState, way: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]) -> TrainState:
        def leaf(path: tuple[Any, ...], array: Any) -> Any:
            name = self._name(path)
            return way(array, self._shapes[name]) if name else array

        return dataclasses.replace(state, opt_state=jax.tree_util.tree_map_with_path(leaf, state.opt_state))

    def _name(self, path: tuple[Any, ...]) -> str:
        """The parameter that an array of the optimizer's state is kept for, empty if for none."""
        name = getattr(path[-1], "key", "")
        return name if name in self._shapes else ""

    def _filled(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return np.pad(np.reshape(array, -1), (0, -np.size(array) % self._devices.count))

    @staticmethod
    def _whole(flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return flat[: int(np.prod(shape))].reshape(shape)
