"""Weights inside the package: by name, or where none are given."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from jaxcolor.weights import native, packaged
from jaxcolor.weights.reference import WeightsError
from tests.weights.conftest import SMALL, assert_same


@pytest.fixture
def folder(tmp_path, monkeypatch, small) -> Path:
    """In place of the package's: weights ``default``."""
    place = tmp_path / "package"
    place.mkdir()
    native.save(place / "some.safetensors", SMALL, small, note="those of the package")
    packaged.register(place, "default", "some.safetensors")
    monkeypatch.setattr(packaged, "folder", lambda: place)
    return place


@pytest.mark.parametrize("weights", [None, "default"])
def test_by_name(folder, small, weights):
    assert packaged.is_name(weights)
    assert packaged.described(weights) == "some.safetensors"
    loaded = packaged.load(weights)
    assert loaded.note == "those of the package"
    assert_same(loaded.variables, small)


def test_files_are_read_as_before(folder, tmp_path, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    native.save("default", SMALL, {"full": small["full"]}, note="a file")
    for given in (Path("default"), "./default", str(tmp_path / "default")):
        assert not packaged.is_name(given)
        assert packaged.described(given) == str(given)
        assert packaged.load(given).note == "a file"
    assert packaged.load("default").note == "those of the package"
    with pytest.raises(FileNotFoundError, match="defualt"):
        packaged.load("defualt")


def test_from_a_zip_file(folder, small, monkeypatch):
    """As ``importlib.resources`` gives the package's folder where the package is imported from one."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.iterdir():
            file.write(path, f"default/{path.name}")
    monkeypatch.setattr(packaged, "folder", lambda: zipfile.Path(archive) / "default")
    assert_same(packaged.load().variables, small)


def test_several(folder, small):
    native.save(folder / "small.safetensors", SMALL, {"full": small["full"]}, note="another")
    packaged.register(folder, "small", "small.safetensors")
    assert packaged.load("small").note == "another"
    assert packaged.load().note == "those of the package"


def test_registering_anew(folder, small):
    native.save(folder / "some.safetensors", SMALL, small, note="newer")
    with pytest.raises(WeightsError, match="not the weights that belong to jaxcolor"):
        packaged.load()
    packaged.register(folder, "default", "some.safetensors")
    assert packaged.load().note == "newer"
    assert list(json.loads((folder / packaged.REGISTRY).read_text())) == ["default"]


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", b""])
def test_a_file_that_is_another(folder, content):
    (folder / "some.safetensors").write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"some\.safetensors: not the weights that belong .*: install jaxcolor again"
    ):
        packaged.load()


@pytest.mark.parametrize("missing", ["file", "entry", "registry"])
def test_an_installation_without_them(folder, missing):
    if missing == "file":
        (folder / "some.safetensors").unlink()
    elif missing == "entry":
        (folder / packaged.REGISTRY).write_text("{}\n")
    else:
        (folder / packaged.REGISTRY).unlink()
    for weights in (None, "default"):
        with pytest.raises(
            WeightsError, match=r"the weights 'default' are .*; install one .*give a \.safetensors"
        ) as error:
            packaged.load(weights)
        assert len(str(error.value).splitlines()) == 1


def test_the_package_itself():
    """What its registry names is there, or nothing is named."""
    for name, entry in packaged.read_registry(packaged.folder()).items():
        assert (packaged.folder() / entry.file).is_file(), name
        assert packaged.load(name).trees[0] == "full"
