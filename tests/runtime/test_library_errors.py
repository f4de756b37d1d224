"""Errors of libraries: one line that says what to do, and no traceback; bugs stay bugs."""

import errno
import logging
import sys
from collections.abc import Callable

import pytest
from jax.errors import JaxRuntimeError

from jaxcolor.runtime.errors import exit_status
from jaxcolor.runtime.library_errors import translate

TENSORSTORE = (
    'RESOURCE_EXHAUSTED: Error writing "params.norm2/0" in OCDBT database at local file '
    '"runs/a/full/4.orbax-checkpoint-tmp/variables.orbax-checkpoint-tmp/": Failed writing: "runs/a/full/4.orbax-'
    'checkpoint-tmp/variables/d/675": Failed to write 17126 bytes to file 9: No space left on device [os_error_code='
)
CUDA = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12.50GiB. [tf-allocator-allocation-error='']"
WORKER = "Worker process was terminated unexpectedly with exit code -9. Search the logs above for the source of it."
GONE = "UNAVAILABLE: failed to connect to all addresses. RPC: /xla.coordination.CoordinationService/Heartbeat"


@pytest.mark.parametrize(
    ("error", "start", "part"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/a/log"), "runs/a/log: the disk is full", "make room"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "w"), "w: the disk is full, or a quota", "same command again"),
        (ValueError(TENSORSTORE), "runs/a/full/4: the disk is full", "(No space left on device)"),
        (OSError(errno.ESTALE, "Stale file handle", "a.jpg"), "a.jpg: the file system gave the file up", "mounted"),
        (JaxRuntimeError(CUDA), "the device's memory is full (12.50GiB more", "--config.full.accumulate=2"),
        (MemoryError("Unable to allocate 40 GiB"), "the computer's memory is full (Unable to allocate 40", "data.thr"),
        (RuntimeError(WORKER), "a worker process that reads photos ended by itself (status -9)", "fewer data.workers"),
        (JaxRuntimeError(GONE + " coordination service"), "another process of this run has ended", "start them again"),
    ],
)
@pytest.mark.parametrize("wrap", ["bare", "cause", "group"])
def test_what_is_known_is_one_line(
    wrap: str, error: Exception, start: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        if wrap == "bare":
            raise error
        if wrap == "group":
            raise ExceptionGroup("two", [error, KeyError("a")])
        raise RuntimeError("a save failed") from error

    assert exit_status("prog", work) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"prog: {start}")
    assert part in line


@pytest.mark.parametrize("error", [ValueError("shapes (3,) and (4,)"), JaxRuntimeError("INTERNAL: a bug"), KeyError(1)])
def test_what_is_not_known_is_a_bug(error: Exception) -> None:
    assert translate(error) is None


def test_what_is_raised_anyway_is_not_logged_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: passed.append(str(found.exc_value)))
    exit_status("prog", lambda: None)

    class Found:
        def __init__(self, error: Exception) -> None:
            self.exc_value = error

    hook: Callable[[Found], object] = sys.unraisablehook  # type: ignore[assignment]
    hook(Found(RuntimeError("Event loop is closed")))
    hook(Found(RuntimeError("another")))
    assert passed == ["another"]
    logger = logging.getLogger("asyncio")
    with caplog.at_level(logging.ERROR, "asyncio"):
        logger.error("Future exception was never retrieved: %s", TENSORSTORE)
        logger.error("Task was destroyed")
    assert [record.getMessage() for record in caplog.records] == ["Task was destroyed"]
