"""The boxes of many photos at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcolor.boxes import DroppedBoxes, clean_boxes, count_usable
from jaxcolor.data.boxes import packed
from jaxcolor.data.boxes.base import MissingBoxesError
from jaxcolor.data.boxes.bulk_read import BoxGatherer, ReadsInBulk, read_all
from jaxcolor.data.boxes.npz import npz_store
from jaxcolor.data.boxes.packed import PackedStore
from jaxcolor.data.boxes.packed_writer import PackedWriter
from jaxcolor.data.types import Boxes, DataError


def boxes_of(number):
    count = number % 4
    rng = np.random.default_rng(number)
    return Boxes(rng.random((count, 4), np.float32), rng.random(count, np.float32))


def write_packed(path, numbers, **options):
    with PackedWriter(path, source_kind="npz", source_name="made", **options) as writer:
        for number in numbers:
            writer.add(f"photo {number}", boxes_of(number))
    return PackedStore(path)


def split(many):
    """The boxes and scores of each photo as lists; None where there is no entry."""
    ends = np.cumsum(many.counts)
    return [
        None if many.per_photo[i] < 0 else (many.boxes[end - n : end].tolist(), many.scores[end - n : end].tolist())
        for i, (end, n) in enumerate(zip(ends, many.counts, strict=True))
    ]


def wanted(number):
    boxes, scores = boxes_of(number)
    return boxes.tolist(), scores.tolist()


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 30), max_size=10), st.integers(10, 12))
def test_gathering_is_in_the_photos_order(entries, photos):
    gathering = BoxGatherer(photos)
    for photo, number in entries.items():
        gathering.add(photo, boxes_of(number))
    assert split(gathering.built()) == [wanted(entries[i]) if i in entries else None for i in range(photos)]


class TestPacked:
    @pytest.mark.parametrize("same_hash", [False, True])
    def test_many(self, tmp_path, same_hash, monkeypatch):
        if same_hash:  # both modules have the name
            monkeypatch.setattr(packed, "key_hash", lambda key: sum(key.encode()) % 60)
            monkeypatch.setattr("jaxcolor.data.boxes.packed_writer.key_hash", lambda key: sum(key.encode()) % 60)
        stored = np.random.default_rng(0).permutation(700)[:600].tolist()
        store = write_packed(tmp_path / "s", stored, records_per_shard=270)
        assert isinstance(store, ReadsInBulk)
        asked = [*np.random.default_rng(1).permutation(900).tolist(), 5, 5]
        found = split(store.read_many([f"photo {n}" for n in asked]))
        there = set(stored)
        assert found == [wanted(n) if n in there else None for n in asked]
        assert split(store.read_many([])) == []

    def test_join(self, tmp_path):
        store = write_packed(tmp_path / "s", range(9))
        many, bad = read_all(store, ["photo 3", "gone", "photo 1"], may_lack=True, skip_bad=False)
        assert (split(many), bad) == ([wanted(3), None, wanted(1)], {})
        assert many.counts.tolist() == [3, 0, 1]
        with pytest.raises(
            MissingBoxesError, match=r"no boxes for photo gone; the same for 1 more of 3 photos \(lost\)"
        ):
            read_all(store, ["photo 3", "gone", "lost"], may_lack=False, skip_bad=True)

    def test_damaged(self, tmp_path):
        write_packed(tmp_path / "s", range(400), records_per_shard=200)
        shard = tmp_path / "s" / packed.shard_name(1)
        data = bytearray(shard.read_bytes())
        data[100] ^= 0xFF
        shard.write_bytes(data)
        store, keys = PackedStore(tmp_path / "s"), [f"photo {n}" for n in range(400)]
        with pytest.raises(DataError, match=r"boxes-00001\.array_record: record \d+ is damaged"):
            read_all(store, keys, may_lack=False, skip_bad=False)
        # One by one instead: those that can be read are.
        many, bad = read_all(store, keys, may_lack=True, skip_bad=True)
        assert min(bad) >= 200
        assert split(many) == [None if n in bad else wanted(n) for n in range(400)]
        with pytest.raises(DataError, match="record"):
            store.read(keys[min(bad)])


def test_files_one_by_one(tmp_path):
    for number in (1, 3):
        boxes, scores = boxes_of(number)
        np.savez(tmp_path / f"{number}.npz", bbox=boxes, scores=scores)
    (tmp_path / "2.npz").write_bytes(b"rubbish")
    store = npz_store(tmp_path)
    with pytest.raises(MissingBoxesError, match=r"4\.npz: no such box file"):
        read_all(store, ["3", "2", "4"], may_lack=False, skip_bad=True)
    with pytest.raises(DataError, match=r"2\.npz: cannot read"):
        read_all(store, ["3", "2"], may_lack=False, skip_bad=False)
    many, bad = read_all(store, ["3", "2", "4", "1"], may_lack=True, skip_bad=True)
    assert split(many) == [wanted(3), None, None, wanted(1)]
    assert list(bad) == [1]


CORNER = st.sampled_from([-5.0, 0.0, 0.5, 3.0, 9.99, 10.0, 20.0, float("nan"), float("inf"), 1e30])
BOXES = st.lists(st.tuples(st.tuples(CORNER, CORNER, CORNER, CORNER), st.sampled_from([0.5, float("nan")])), max_size=4)


@given(st.lists(st.tuples(BOXES, st.tuples(st.integers(1, 30), st.integers(1, 30))), max_size=6))
def test_counting_at_once_is_cleaning_one_by_one(photos):
    boxes = np.array([box for entries, _ in photos for box, _ in entries], np.float32).reshape(-1, 4)
    scores = np.array([score for entries, _ in photos for _, score in entries], np.float32)
    per_photo = np.array([len(entries) for entries, _ in photos], np.int64)
    sizes = np.array([size for _, size in photos], np.int32).reshape(-1, 2)
    counts = count_usable(boxes, scores, per_photo, sizes)
    for row, (end, number, (_, size)) in enumerate(zip(np.cumsum(per_photo), per_photo, photos, strict=True)):
        own = slice(end - number, end)
        clean = clean_boxes(boxes[own], scores[own], size)
        assert counts[row, 0] == len(clean.boxes)
        assert DroppedBoxes(*counts[row, 1:].tolist()) == clean.dropped


def test_counting_in_parts(monkeypatch):
    boxes = np.random.default_rng(0).uniform(-5, 40, (50, 4)).astype(np.float32)
    per_photo = np.array([0, 20, 0, 30])
    arguments = (boxes, np.ones(50, np.float32), per_photo, np.array([[0, 0], [20, 30], [0, 0], [30, 20]]))
    whole = count_usable(*arguments)
    monkeypatch.setattr("jaxcolor.boxes._COUNTED_AT_ONCE", 7)
    assert count_usable(*arguments).tolist() == whole.tolist()
    assert whole.sum(axis=1).tolist() == per_photo.tolist()
    with pytest.raises(ValueError, match="without pixels"):
        count_usable(*arguments[:3], np.zeros((4, 2), int))
