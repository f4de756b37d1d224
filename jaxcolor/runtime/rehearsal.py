"""Compile the programs of some work side by side, before it is done.

Programs that call one after another are compiled one after another, each when it is first called. Here the work is gone
through once without computing anything: each program is traced and lowered, compiled in a thread, and answers with the
shapes of its results. JAX then finds the compiled program when the work is done in earnest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np

THREADS = 8
"""That compile at once, at most."""


_COMPILERS: ContextVar[ThreadPoolExecutor | None] = ContextVar("compilers", default=None)
"""Those of the rehearsal that is on."""


class Program:
    """A function of ``jax.jit``, which can be rehearsed."""

    def __init__(self, function: Any, place: Callable[[Any], Any]) -> None:
        """As it is called.

        Args:
          function: of ``jax.jit``; its attributes are this one's too.
          place: shapes of its results -> the same with the shardings that the results will have.
        """
        self._function = function
        self._place = place
        self._known: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __call__(self, *arguments: Any) -> Any:
        """The function's results; in a rehearsal what they will be like."""
        compilers = _COMPILERS.get()
        return self._function(*arguments) if compilers is None else self._rehearse(compilers, arguments)

    def _rehearse(self, compilers: ThreadPoolExecutor, arguments: tuple[Any, ...]) -> Any:
        leaves, tree = jax.tree.flatten(arguments)
        precision = jax.config.values["jax_default_matmul_precision"]
        key = (tree, precision, *((leaf.shape, leaf.dtype, leaf.sharding) for leaf in leaves))
        if key not in self._known:
            lowered = self._function.lower(*arguments)
            self._known[key] = self._place(lowered.out_info)
            compilers.submit(_compile, lowered, precision)
        return self._known[key]


def _compile(lowered: Any, precision: str | None) -> None:
    with jax.default_matmul_precision(precision):  # of this thread, and part of what the compiled program is found by
        lowered.compile()


@contextmanager
def rehearsal() -> Iterator[None]:
    """A block in which each ``Program`` is compiled and none is run; at its end all are.

    Their results are ``jax.ShapeDtypeStruct`` and can only be handed on to programs and to ``zeros``. What cannot be
    compiled is reported where it is called in earnest.
    """
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as compilers:
        token = _COMPILERS.set(compilers)
        try:
            yield
        finally:
            _COMPILERS.reset(token)


def zeros(tree: Any) -> Any:
    """In place of results of a rehearsal host arrays of zeros; anything else as it is."""
    if _COMPILERS.get() is None:
        return tree
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x, tree)
