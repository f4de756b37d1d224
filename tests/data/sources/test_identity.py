"""What a set of photos tells of itself without opening one."""

import pytest

from jaxcolor.data.sources.photo_source import FolderSet
from jaxcolor.data.sources.zip_file import ZipSet
from tests.data.photo_files import jpeg, write_zip


def folder_set(place, files):
    place.mkdir()
    for name, data in files.items():
        (place / name).write_bytes(data)
    return FolderSet(place)


def zip_set(place, files):
    return ZipSet(write_zip(place, files))


@pytest.mark.parametrize("make", [folder_set, zip_set])
def test_a_photo_that_is_replaced(make, tmp_path):
    files = {f"{number}.jpg": jpeg(number) for number in range(4)}
    before = make(tmp_path / "a", files)
    after = make(tmp_path / "b", files | {"2.jpg": jpeg(2, 50, 50)})
    assert not before.identity().same(after.identity())
    assert before.identity(sizes=False).same(after.identity(sizes=False))
    assert before.state(range(2)) == after.state(range(2))
    assert before.state(range(2, 4)) != after.state(range(2, 4))
    renamed = make(tmp_path / "c", {f"x{name}": data for name, data in files.items()})
    assert not before.identity(sizes=False).same(renamed.identity(sizes=False))


def test_a_member_of_the_same_size_that_is_replaced(tmp_path):
    before, after = (zip_set(tmp_path / f"{data}.zip", {"1.jpg": data.encode()}) for data in ("one", "two"))
    assert before.state(range(1)) != after.state(range(1))
    assert before.identity(sizes=False).same(after.identity(sizes=False))
