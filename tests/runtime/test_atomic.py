"""Files and folders that are written atomically."""

from pathlib import Path

import pytest

from jaxcolor.runtime.atomic import (
    atomic_dir,
    atomic_write,
    check_space,
    partial_path,
    put_folder,
    refuse_existing,
    remove_leftovers,
    unique_partial_path,
    write_text,
)
from jaxcolor.runtime.errors import UserError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with atomic_write(path) as temporary:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half, then \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with atomic_write(tmp_path / "a") as temporary:
        temporary.chmod(0o600)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".jaxcolor-0a1b2c3d.tmp").touch()
    (tmp_path / "mine.tmp").touch()
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.tmp"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        write_text(tmp_path, "")
    with pytest.raises(FileNotFoundError) as error:
        write_text(tmp_path / "no_such" / "a", "")
    assert error.value.filename == str(tmp_path / "no_such")


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


def fail(folder):
    (folder / "file").write_text("half")
    raise KeyError("wrong")


class TestAtomicDir:
    def test_appears_when_the_block_ends(self, tmp_path):
        output = tmp_path / "above" / "set"
        with atomic_dir(output, keep=False) as part:
            assert part == partial_path(output)
            (part / "file").write_text("new")
            assert not output.exists()
        assert names(output) == ["file"]
        assert names(output.parent) == ["set"]
        with pytest.raises(UserError, match="set: exists; name another folder"), atomic_dir(output, keep=False):
            pytest.fail("there already")

    @pytest.mark.parametrize("keep", [False, True])
    def test_what_an_error_leaves(self, tmp_path, keep):
        output = tmp_path / "set"
        part = partial_path(output)
        with pytest.raises(KeyError, match="wrong"), atomic_dir(output, keep=keep):
            fail(part)
        assert not output.exists()
        assert names(tmp_path) == ([part.name] if keep else [])
        with atomic_dir(output, keep=keep) as part:
            assert (part / "file").exists() == keep

    def test_two_do_not_meet(self, tmp_path):
        output = tmp_path / "set"
        busy = pytest.raises(UserError, match="set: another process is making it")
        with atomic_dir(output, keep=False) as part, busy, atomic_dir(output, keep=False):
            pytest.fail("two at once")
        assert part.name not in names(tmp_path)

    def test_a_folder_of_somebody_else_is_left_alone(self, tmp_path):
        part = partial_path(tmp_path / "set")
        part.mkdir()
        (part / "diary").touch()
        with pytest.raises(UserError, match="move it away"), atomic_dir(tmp_path / "set", keep=False):
            pytest.fail("in a folder of somebody else")
        assert names(part) == ["diary"]


def test_what_is_there_is_refused(tmp_path):
    refuse_existing(tmp_path / "no")
    (tmp_path / "broken").symlink_to(tmp_path / "no")
    with pytest.raises(UserError, match="broken: exists"):
        refuse_existing(tmp_path / "broken")


def test_space_is_that_of_the_nearest_folder(tmp_path):
    check_space(tmp_path / "no" / "such", 1)
    with pytest.raises(UserError, match=r"such: needs .* GB of disk"):
        check_space(tmp_path / "no" / "such", 1 << 60)
