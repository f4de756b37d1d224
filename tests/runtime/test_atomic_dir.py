"""Files and folders that appear whole, and locks."""

import errno
import fcntl

import pytest

from jaxcolor.data.types import DataError
from jaxcolor.runtime.atomic_dir import file_lock, put_folder, unique_partial_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestPutFolder:
    @pytest.fixture
    def folders(self, tmp_path):
        """A finished one, and one that has its name."""
        part, path = unique_partial_path(tmp_path / "set"), tmp_path / "set"
        for folder, text in ((part, "new"), (path, "old")):
            folder.mkdir()
            (folder / "file").write_text(text)
        return part, path

    def test_replaces(self, folders, tmp_path):
        part, path = folders
        put_folder(part, path, replace=True)
        assert (path / "file").read_text() == "new"
        assert names(tmp_path) == ["set"]

    def test_stays_unless_replaced(self, folders):
        part, path = folders
        with pytest.raises(OSError, match="not empty"):
            put_folder(part, path, replace=False)
        assert (path / "file").read_text() == "old"

    def test_what_was_there_comes_back(self, folders, tmp_path):
        part, path = folders
        with pytest.raises(FileNotFoundError):
            put_folder(part / "gone", path, replace=True)
        assert (path / "file").read_text() == "old"
        assert sorted(names(tmp_path)) == sorted([part.name, "set"])


class TestAlone:
    def test_one_at_a_time(self, tmp_path):
        lock, twice = tmp_path / "lock", pytest.raises(DataError, match="busy")
        with file_lock(lock, "busy"), twice, file_lock(lock, "busy"):
            pytest.fail("two at once")
        with file_lock(lock, "busy"):
            pass

    def test_a_lock_that_its_holder_removed_is_none(self, tmp_path, monkeypatch):
        """Opened before the holder removed it, locked after: another process may hold one of the same name."""
        lock, flock = tmp_path / "lock", fcntl.flock

        def late(*arguments):
            lock.unlink()
            flock(*arguments)

        monkeypatch.setattr(fcntl, "flock", late)
        with pytest.raises(DataError, match="busy"), file_lock(lock, "busy"):
            pytest.fail("held by nobody")

    def test_disks_without_locks(self, tmp_path, monkeypatch):
        def none(*arguments):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", none)
        with file_lock(tmp_path / "lock", "busy"):
            (tmp_path / "done").touch()
        assert (tmp_path / "done").exists()
