"""A named pipe in place of a file is refused; to open it would wait for ever."""

import os

import pytest

from jaxcolor.data.archive import Archive
from jaxcolor.data.boxes.npz import read_npz
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.boxes.voc import read_voc
from jaxcolor.data.sources.base import read_list
from jaxcolor.evaluation.metrics.state_files import read_state
from jaxcolor.study.reading import read_object
from jaxcolor.weights import native
from jaxcolor.weights.reference import read_pth

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
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_it_is_refused(read, tmp_path):
    path = tmp_path / "pipe.npz"
    os.mkfifo(path)
    with pytest.raises((OSError, ValueError), match="is no regular file but a pipe") as error:
        read(path)
    assert "pipe.npz" in str(error.value)
