"""One run at a time in a folder of results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path

from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.file_lock import file_lock
from jaxcolor.runtime.parallel import Devices

LOCK = ".jaxcolor-lock"

_owned: ContextVar[frozenset[Path]] = ContextVar("owned", default=frozenset())
"""The folders of this thread's runs: a demo trains in its own folder."""


class FolderInUseError(UserError):
    """A folder in which another run is at work; the message says who, and since when."""


@contextmanager
def owned_folder(folder: Path, flag: str, devices: Devices | None = None) -> Iterator[None]:
    """A block in which no other run writes to a folder.

    The folder is made if it is not there. It goes again, with those above it that were made, if nothing is in it at the
    end. A process that is killed owns nothing any more.

    Args:
      folder: of the run's results.
      flag: how a person names it, for the message: ``--workdir``.
      devices: of all processes of the run, of which the first one takes the lock; None: there is one.

    Raises:
      FolderInUseError: another run is at work in it; in every process.
      UserError: it cannot be made, or nothing can be written there.
    """
    place = folder.resolve()
    if place in _owned.get():
        yield
        return
    with ExitStack() as stack:
        problem: UserError | None = None
        if devices is None or devices.is_first:
            try:
                stack.enter_context(_locked(folder, flag))
            except UserError as error:
                problem = error
        if devices is not None and devices.process_count > 1:
            said = devices.gather(None if problem is None else str(problem))[0]
            problem = None if said is None else FolderInUseError(said)
        if problem is not None:
            raise problem
        token = _owned.set(_owned.get() | {place})
        try:
            yield
        finally:
            _owned.reset(token)


@contextmanager
def _locked(folder: Path, flag: str) -> Iterator[None]:
    made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    lock = folder / LOCK
    with ExitStack() as stack:
        stack.callback(_remove_empty, made)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(file_lock(lock, f"{flag} {folder}: another run is at work in it"))
        except UserError as error:
            raise FolderInUseError(f"{error}; wait for it, or name another folder") from error
        except OSError as error:
            blocked = next((path for path in (folder, *folder.absolute().parents) if path.is_file()), None)
            what = f"{blocked} is a file" if blocked else f"cannot be written to ({error.strerror or error})"
            raise UserError(f"{flag} {folder}: {what}; give another folder") from error
        stack.callback(lock.unlink, missing_ok=True)  # before the lock is given up
        yield


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
