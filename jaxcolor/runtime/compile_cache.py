"""Compiled programs kept from run to run, for commands whose time would otherwise go into compiling."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

LEAST_SECONDS = 0.1
"""JAX's own limit is a second: of an evaluation's programs, fourteen that take three seconds in all are below it."""

_LEAST = "jax_persistent_cache_min_compile_time_secs"


def folder() -> Path:
    """Where they lie: in the user's folder for caches, apart for each machine, as their instructions may differ."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "jaxcolor" / "compiled" / (platform.node() or "machine")


@contextmanager
def compile_cache() -> Iterator[None]:
    """Keep what is compiled in the block and takes ``LEAST_SECONDS`` or more, in ``folder()``.

    Where JAX has been given a folder (``JAX_COMPILATION_CACHE_DIR``) that one is used, and none where its cache is
    turned off (``JAX_ENABLE_COMPILATION_CACHE=0``). A folder that cannot be written costs JAX's warning, not the run. A
    user without a home has none.
    """
    try:
        place = str(folder())
    except RuntimeError:  # neither HOME nor an entry for this user
        place = ""
    if not place or jax.config.values["jax_compilation_cache_dir"] is not None:
        yield
        return
    least = jax.config.values[_LEAST]
    _use(place, min(least, LEAST_SECONDS))
    try:
        yield
    finally:
        _use(None, least)


def _use(path: str | None, least: float) -> None:
    jax.config.update("jax_compilation_cache_dir", path)
    jax.config.update(_LEAST, least)
    compilation_cache.reset_cache()  # whether there is a cache is otherwise decided at the first compile of a process
