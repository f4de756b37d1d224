"""Eight forced host devices on CPU that compile fast, and each program once, set before anything imports JAX."""

import atexit
import contextlib
import ctypes
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from absl import flags

from tests import quick

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 {quick.FLAGS}"
os.environ["JAX_PLATFORMS"] = "cpu"
if quick.CACHE not in os.environ:  # the workers of pytest-xdist, and programs that tests start, find it there
    os.environ[quick.CACHE] = tempfile.mkdtemp(prefix="jaxcolor_compiled_")
    atexit.register(shutil.rmtree, os.environ[quick.CACHE], ignore_errors=True)
os.environ |= quick.ENVIRONMENT
os.environ.setdefault("OMP_NUM_THREADS", "1")  # PyTorch's and BLAS's threads spin for longer than tests compute

# Tracing makes millions of objects that live on: to look through them again and again takes a tenth of the time.
gc.set_threshold(100_000, 50, 50)

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()

LONG = (
    "test_parity.py",
    "training/test_loop.py",
    "training/test_step.py",
    "models/test_fusion.py",
    "training/test_distillation.py",
    "training/test_step_outputs.py",
    "inference/test_package_weights.py",
    "training/test_resume.py",
    "ablation/test_run.py",
    "training/test_outputs_run.py",
    "web/test_engine.py",
    "web/test_app.py",
    "test_notebook.py",
    "test_readme.py",
    "training/test_monitor.py",
    "evaluation/test_eval_program.py",
    "test_docs_site.py",
)
"""Files that take longest come first, so that no process of pytest-xdist is left alone with one of them at the end."""


MOST_MEMORY = 4 * 2**30
"""Bytes of a process above which it forgets its compiled programs after a file of tests; they are on the disk still."""


def _resident() -> int:
    """Bytes of memory that this process has now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _give_back() -> None:
    """What is free goes back to the system, which the C library otherwise keeps: the next file would seem as large."""
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    yield
    if _resident() > MOST_MEMORY and "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()
        _give_back()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # would put files of many tests first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))
