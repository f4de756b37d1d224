"""Reading packed stores."""

import multiprocessing
import os
import pickle
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxcolor.data.boxes import packed, packed_writer
from jaxcolor.data.boxes.base import BoxStore, MissingBoxesError
from jaxcolor.data.boxes.packed import PackedStore, Record, decode, encode
from jaxcolor.data.boxes.packed_writer import PackedWriter
from jaxcolor.data.types import Boxes, DataError
from tests.data.boxes.packed_files import BOXES, assert_same, beside, many, write

any_float = st.floats(width=32, allow_nan=True, allow_infinity=True)

any_boxes = hnp.arrays(np.float32, st.tuples(st.integers(0, 4), st.just(5)), elements=any_float).map(
    lambda rows: Boxes(rows[:, :4], rows[:, 4])
)


@settings(max_examples=40, deadline=None)
@given(
    photos=st.dictionaries(st.text(max_size=10), any_boxes, min_size=1, max_size=8),
    strangers=st.lists(st.text(max_size=10), max_size=4),
    per_shard=st.integers(1, 9),
)
def test_gives_back_what_was_packed(tmp_path_factory, photos, strangers, per_shard):
    store = write(tmp_path_factory.mktemp("packed") / "store", photos, records_per_shard=per_shard)
    assert isinstance(store, BoxStore)
    assert list(store.keys()) == list(photos)
    assert len(store) == store.manifest.images == len(photos)
    assert store.manifest.boxes == sum(len(boxes.scores) for boxes in photos.values())
    for key, boxes in photos.items():
        assert key in store
        assert_same(store.read(key), boxes)
    for key in set(strangers) - set(photos):
        assert key not in store
        with pytest.raises(MissingBoxesError):
            store.read(key)
    store.verify()


@settings(deadline=None)
@given(key=st.text(), boxes=any_boxes, cut=st.integers(1, 30))
def test_records(key, boxes, cut):
    data = encode(Record(key, boxes))
    again = decode(data)
    assert again.key == key
    assert_same(again.boxes, boxes)
    for wrong in (data[:-cut], data + bytes(cut)):
        with pytest.raises(ValueError, match="a record of"):
            decode(wrong)


def test_names_that_are_no_utf8(tmp_path):
    key = os.fsdecode(b"caf\xe9")
    assert_same(write(tmp_path / "s", {key: BOXES}).read(key), BOXES)


def test_content_hash_depends_on_contents_alone(tmp_path):
    photos = many(20)
    hashes = {write(tmp_path / f"s{n}", photos, records_per_shard=n).manifest.content_sha256 for n in (3, 7, 100)}
    assert len(hashes) == 1
    photos["photo 1"] = BOXES
    assert write(tmp_path / "other", photos).manifest.content_sha256 not in hashes


class TestSharedHashes:
    def test_are_told_apart(self, tmp_path, monkeypatch):
        for module in (packed, packed_writer):
            monkeypatch.setattr(module, "key_hash", lambda key: len(key) % 3)
        photos = many(25)
        store = write(tmp_path / "s", photos, records_per_shard=4)
        for key, boxes in photos.items():
            assert_same(store.read(key), boxes)
        assert "photo 25" not in store
        assert "" not in store

    def test_a_photo_twice(self, tmp_path):
        writer = PackedWriter(tmp_path / "s", source_kind="voc", source_name="x", records_per_shard=2)
        writer.__enter__()
        for key in ("a", "b", "c", "a"):
            writer.add(key, BOXES)
        with pytest.raises(DataError, match="photo a: there are boxes for it twice; nothing was packed"):
            writer.__exit__(None, None, None)
        assert beside(tmp_path / "s") == []


def read_in_child(store, key, answers):
    answers.put(store.read(key).boxes.tolist())


def test_without_array_record(tmp_path, monkeypatch):
    write(tmp_path / "s", {"a": BOXES})
    monkeypatch.setitem(sys.modules, "array_record.python", None)
    with pytest.raises(DataError, match="packed box stores need the package array_record"):
        PackedStore(tmp_path / "s")


class TestWorkers:
    def test_threads(self, tmp_path):
        photos = many(300)
        store = pickle.loads(pickle.dumps(write(tmp_path / "s", photos, records_per_shard=50)))
        wrong = []

        def work(seed):
            for n in np.random.default_rng(seed).integers(0, 300, 200).tolist():
                if not np.array_equal(store.read(f"photo {n}").boxes, photos[f"photo {n}"].boxes):
                    wrong.append(n)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
    def test_forked(self, tmp_path):
        store = write(tmp_path / "s", many(30), records_per_shard=7)
        store.read("photo 4")
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        child = context.Process(target=read_in_child, args=(store, "photo 4", answers), daemon=True)
        child.start()
        assert answers.get(timeout=60) == store.read("photo 4").boxes.tolist()
        child.join(timeout=60)
        assert child.exitcode == 0
        child.close()

    def test_pickled_it_is_its_path(self, tmp_path):
        store = write(tmp_path / "s", many(3000))
        assert len(pickle.dumps(store)) < 500
