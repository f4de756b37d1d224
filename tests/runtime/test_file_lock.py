"""One process at a time."""

import errno
import fcntl

import pytest

from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.file_lock import file_lock


def test_one_at_a_time(tmp_path):
    lock, twice = tmp_path / "lock", pytest.raises(UserError, match="busy")
    with file_lock(lock, "busy"), twice, file_lock(lock, "busy"):
        pytest.fail("two at once")
    with file_lock(lock, "busy"):
        pass


def test_a_lock_that_its_holder_removed_is_none(tmp_path, monkeypatch):
    """Opened before the holder removed it, locked after: another process may hold one of the same name."""
    lock, flock = tmp_path / "lock", fcntl.flock

    def late(*arguments):
        lock.unlink()
        flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UserError, match="busy"), file_lock(lock, "busy"):
        pytest.fail("held by nobody")


def test_disks_without_locks(tmp_path, monkeypatch):
    def none(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with file_lock(tmp_path / "lock", "busy"):
        (tmp_path / "done").touch()
    assert (tmp_path / "done").exists()
