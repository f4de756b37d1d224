"""What libraries raise for reasons outside the code, in words that say what to do; their noise is kept out of logs."""

from __future__ import annotations

import errno
import logging
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded", "File too large")
_LOST = {errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN}
_LOST_TEXTS = ("Stale file handle", "Input/output error", "Transport endpoint is not connected")
_QUOTED = re.compile(r'(?:Failed writing|local file|Failed to \w+[^"]*):? "([^"]+)"')
_WORKER = re.compile(r"Worker process was terminated unexpectedly with exit code (-?\d+)")
_ASKED = re.compile(r"allocate ([\d.]+ ?[KMGT]i?B|\d+ bytes)")


def translate(error: BaseException) -> str | None:
    """One line for a person where it is known what an error of a library means; None for all others.

    Known are: a full disk, a file that a network file system gave up, a device or a computer without memory, a worker
    process that ended, processes of one run that lost each other.
    """
    for one in _chain(error):
        text = str(one)
        if said := _about_files(one, text):
            return said
        if "RESOURCE_EXHAUSTED" in text and "memory" in text.lower():
            asked = _ASKED.search(text)
            what = f" ({asked[1]} more were asked for)" if asked else ""
            return (
                f"the device's memory is full{what}: lower the stage's batch_size or raise its accumulate "
                "(--config.full.accumulate=2), lower data.max_crops_per_image, or set model.compute_dtype to bfloat16; "
                "in an evaluation lower eval.batch_size, in jaxcolor colorize --batch; or other programs hold memory"
            )
        if isinstance(one, MemoryError):
            return (
                f"the computer's memory is full{f' ({text})' if text else ''}: lower the batch size, data.threads and "
                "data.workers, or end other programs"
            )
        if ended := _WORKER.search(text):
            return (
                f"a worker process that reads photos ended by itself (status {ended[1]}); what it said is above, if "
                "anything: without a word it was killed, for want of memory perhaps (fewer data.workers)"
            )
        if "coordination service" in text.lower() and ("UNAVAILABLE" in text or "DEADLINE_EXCEEDED" in text):
            return "another process of this run has ended or is not reached; end all of them, and start them again"
    return None


def _about_files(error: BaseException, text: str) -> str:
    number = error.errno if isinstance(error, OSError) else None
    name = str(error.filename) if isinstance(error, OSError) and error.filename is not None else ""
    if not name and (quoted := _QUOTED.search(text)):
        name = quoted[1].split(".orbax-checkpoint-tmp")[0]
    where = f"{name}: " if name else ""
    full = next((known for known in _FULL_TEXTS if known in text), "")
    if number in _FULL or full:
        reason = full or text
        return (
            f"{where}the disk is full, or a quota or limit is reached ({reason}); make room and give the same command "
            "again: what was finished is kept"
        )
    lost = next((known for known in _LOST_TEXTS if known in text), "")
    if number in _LOST or lost:
        return (
            f"{where}the file system gave the file up ({lost or text}); see that it is mounted and give the same "
            "command again"
        )
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, those in its group, and those that led to it."""
    left, seen = [error], set()
    while left:
        one = left.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        left += [*inner, *(other for other in (one.__cause__, one.__context__) if other is not None)]


class _RaisedAnyway(logging.Filter):
    """Leaves out what threads log of errors that reach the main thread too."""

    def filter(self, record: logging.LogRecord) -> bool:
        of_orbax = "/orbax/" in record.pathname or "orbax-checkpoint-tmp" in record.getMessage()
        return not (of_orbax and record.levelno >= logging.ERROR)


_quiet = _RaisedAnyway()


def quiet_libraries() -> None:
    """Keep out of the log what Orbax and TensorStore print, a thousand lines, of an error that they raise as well."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_quiet)  # again and again is once
    if getattr(sys.unraisablehook, "of", None) is not _quiet:
        sys.unraisablehook = _hook(sys.unraisablehook)


def _hook(before: Callable[[sys.UnraisableHookArgs], Any]) -> Callable[[sys.UnraisableHookArgs], Any]:
    def hook(found: sys.UnraisableHookArgs) -> None:
        # TensorStore's writes that are still under way when a save has failed.
        if not (isinstance(found.exc_value, RuntimeError) and str(found.exc_value) == "Event loop is closed"):
            before(found)

    hook.of = _quiet  # type: ignore[attr-defined]
    return hook
