"""Whatever holds the photos, the source and the batches are the same; in threads and in processes too."""

import io
import pickle
import pkgutil
from itertools import islice
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxcolor.config import DataConfig
from jaxcolor.data.loader import eval_batches, train_batches
from jaxcolor.data.sources.registry import open_source
from jaxcolor.data.transforms import Augment
from tests.data.photo_files import (
    contents,
    contents_in_process,
    contents_in_threads,
    jpeg,
    prepare_tfds,
    write_boxes,
    write_zip,
)

SHARED = Path(__file__).parents[4] / "shared" / "data" / "coco_val2017"
COUNT = 9


def boxes_of(number):
    first = np.arange(number % 4, dtype=np.float32)[:, None]
    return np.concatenate([first, first, first + 20, first + 15 + number], axis=1)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Photos in the order in which TFDS shuffled them, as a data set, in a folder, in a zip file; with a list."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow_datasets is not installed")
    root = tmp_path_factory.mktemp("places")
    photos = {f"photo_{n}.jpg": jpeg(n, 50 + n, 60) for n in range(COUNT)}
    features = {"file_name": tfds.features.Text(), "image": tfds.features.Image(encoding_format="jpeg")}
    examples = [{"file_name": name, "image": io.BytesIO(data)} for name, data in photos.items()]
    data_set = prepare_tfds(root, features, examples)
    (root / "photos").mkdir()
    for number, (name, data) in enumerate(photos.items()):
        (root / "photos" / name).write_bytes(data)
        write_boxes(root / "photos_bbox" / f"photo_{number}.npz", boxes_of(number))
    write_zip(root / "photos.zip", photos)
    fields = {"boxes_path": str(root / "photos_bbox")}
    found = open_source(DataConfig(source="tfds", path=str(data_set), **fields))
    order = [found[i].name for i in range(COUNT)]
    assert order != sorted(order)
    (root / "list.txt").write_text("\n".join(f"{name}.jpg" for name in order))
    listed = {**fields, "list_path": str(root / "list.txt")}
    return {
        "tfds": DataConfig(source="tfds", path=str(data_set), **fields),
        "folder": DataConfig(path=str(root / "photos"), **listed),
        "zip": DataConfig(path=str(root / "photos.zip"), **listed),
    }


KINDS = ["folder", "zip", "tfds"]


def batches_of(config):
    source = open_source(config)
    found = []
    for parts in ("full", "instance", "both"):
        with train_batches(source, config, parts=parts, side=16, batch_size=4, augment=Augment(flip=True)) as batches:
            found.extend(islice(batches, 4))
    with eval_batches(source, config, side=16, batch_size=4) as batches:
        found.extend(batches)
    return found


@pytest.mark.parametrize("kind", ["zip", "tfds"])
def test_same_photos_and_batches(places, kind):
    wanted = contents(open_source(places["folder"]))
    assert contents(open_source(places[kind])) == wanted
    assert sum(len(photo[2]) for photo in wanted) == sum(n % 4 for n in range(COUNT))
    for ours, theirs in zip(batches_of(places[kind]), batches_of(places["folder"]), strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_source_says_of_its_photos(places, kind):
    source = open_source(places[kind])
    for index in range(COUNT):
        photo = source[index]
        size, usable = source.usable(index)
        assert size == photo.size
        assert usable.boxes.tolist() == photo.boxes.tolist()
        assert source.crop_count(index) == len(photo.boxes)
        reduced = source.picture(index, 12)
        assert (reduced.name, len(reduced.boxes)) == (photo.name, 0)
        assert reduced.rgb.shape[0] == photo.rgb.shape[0] // 4
    assert source.with_boxes() == tuple(i for i in range(COUNT) if len(source[i].boxes))
    for index in (-1, COUNT):
        with pytest.raises(IndexError, match="of 9"):
            source[index]


@pytest.mark.parametrize("kind", KINDS)
def test_pickled(places, kind):
    source = open_source(places[kind])
    data = pickle.dumps(source)
    assert len(data) < 3000  # no photo, no open file
    again = pickle.loads(data)
    assert contents(again) == contents(source)
    assert again.describe() == source.describe()


@pytest.mark.parametrize("kind", KINDS)
def test_threads(places, kind):
    source = open_source(places[kind])
    wanted = contents(source)
    assert contents_in_threads(pickle.loads(pickle.dumps(source))) == [wanted] * 8  # all open their files at once


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_forked(places, kind):
    source = open_source(places[kind])
    wanted = contents(source)
    assert contents_in_process(source, "fork") == wanted
    assert contents(source) == wanted


@pytest.mark.parametrize("kind", ["zip", "tfds"])
def test_spawned(places, kind):
    source = open_source(places[kind])
    assert contents_in_process(source, "spawn") == contents(source)


@pytest.mark.skipif(not SHARED.exists(), reason=f"no real photos at {SHARED}")
def test_real_coco_downloads(tmp_path):
    photos = {f"val2017/{path.name}": path.read_bytes() for path in sorted((SHARED / "images").iterdir())[:20]}
    write_zip(tmp_path / "val2017.zip", photos)
    instances = (SHARED / "instances_val2017.json").read_bytes()
    write_zip(tmp_path / "annotations_trainval2017.zip", {"annotations/instances_val2017.json": instances})
    choice = {"box_choice": "ground_truth", "missing_boxes": "none"}
    source = open_source(DataConfig(source="coco", path=str(tmp_path), split="val", **choice))
    truth = str(SHARED / "instances_val2017.json")
    folder = open_source(DataConfig(path=str(SHARED / "images"), truth_boxes_path=truth, **choice))
    assert len(source) == 20
    assert len(source.with_boxes()) > 10
    assert contents(source) == [
        (p.name, p.rgb.tobytes(), [], [], p.truth_boxes.tolist()) for p in (folder[i] for i in range(20))
    ]


@pytest.mark.parametrize(
    ("kind", "opening"),
    [
        ("zip", "jaxcolor.data.archive._open"),
        ("tfds", "jaxcolor.data.sources.tfds.TfdsSet._open_shard"),
    ],
)
def test_each_process_opens_files_for_itself(places, kind, opening, monkeypatch):
    """A forked child that used its parent's open file would move the parent's place in it."""
    source = open_source(places[kind])
    wanted, opened = contents(source), []
    open_it = pkgutil.resolve_name(opening)
    monkeypatch.setattr(opening, lambda *arguments: opened.append(arguments) or open_it(*arguments))
    assert contents(source) == wanted
    assert opened == []
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert contents(source) == wanted
    assert len(opened) == 1
