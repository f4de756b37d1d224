import dataclasses
import json
import multiprocessing
import os
import pickle
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxcolor.data.box_files import BoxFile
from jaxcolor.data.box_stores import pack, packed
from jaxcolor.data.box_stores.opening import find_kind, open_store
from jaxcolor.data.box_stores.pack import PackedWriter, pack_store
from jaxcolor.data.box_stores.packed import PackedStore, Record, decode, encode, shard_name
from jaxcolor.data.box_stores.store import BoxStore, MissingBoxesError
from jaxcolor.data.photos import DataError

SHARED = Path(__file__).parents[3] / "shared" / "data"
VAL = SHARED / "coco_val2017"

BOXES = BoxFile(np.arange(8, dtype=np.float32).reshape(2, 4), np.array([0.75, 0.5], np.float32))


def write(path, photos, **options):
    with PackedWriter(path, source_kind="npz", source_name="made up", **options) as writer:
        for key, boxes in photos.items():
            writer.add(key, boxes)
    return PackedStore(path)


def many(count):
    """Photos whose boxes tell which photo they are of."""
    return {
        f"photo {n}": BoxFile(np.full((n % 3, 4), n, np.float32), np.full(n % 3, 0.5, np.float32)) for n in range(count)
    }


def npz_folder(path, photos):
    path.mkdir()
    for key, (boxes, scores) in photos.items():
        np.savez(path / f"{key}.npz", bbox=boxes, scores=scores)
    return path


def assert_same(found, wanted):
    np.testing.assert_array_equal(found.boxes, wanted.boxes)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.boxes.shape == (len(found.scores), 4)


def beside(path):
    """What lies in the store's folder's folder."""
    return sorted(p.name for p in path.parent.iterdir())


any_float = st.floats(width=32, allow_nan=True, allow_infinity=True)
any_boxes = hnp.arrays(np.float32, st.tuples(st.integers(0, 4), st.just(5)), elements=any_float).map(
    lambda rows: BoxFile(rows[:, :4], rows[:, 4])
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
        for module in (packed, pack):
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


class TestWriting:
    def test_nothing_is_left_of_a_failure(self, tmp_path):
        def stopped():
            yield "a", BOXES
            assert len(beside(tmp_path / "s")) == 1
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_all(tmp_path / "s", stopped())
        assert beside(tmp_path / "s") == []
        with pytest.raises(DataError, match="x: no photo in it, nothing to pack"):
            write_all(tmp_path / "s", [])
        assert beside(tmp_path / "s") == []

    def test_replaces_only_packed_stores_and_only_if_asked(self, tmp_path):
        path = tmp_path / "s"
        write(path, {"a": BOXES})
        with pytest.raises(DataError, match="s: exists; give --force to replace it"):
            write(path, many(3))
        with pytest.raises(ZeroDivisionError), PackedWriter(path, source_kind="npz", source_name="x", replace=True):
            raise ZeroDivisionError
        assert list(PackedStore(path).keys()) == ["a"]
        assert len(write(path, many(3), replace=True)) == 3
        assert beside(path) == ["s"]
        photos = tmp_path / "photos"
        photos.mkdir()
        with pytest.raises(DataError, match="photos: exists and is no packed box store: not replaced"):
            write(photos, many(3), replace=True)
        assert photos.exists()

    def test_threshold_must_be_true(self, tmp_path):
        store = write(tmp_path / "s", {"a": BOXES}, detector="yolo", threshold=0.5)
        assert str(store.manifest) == ("2 boxes of 1 photos, from made up (npz); found by yolo, scores of at least 0.5")
        with pytest.raises(DataError, match=r"photo a: has a box of score 0.5, below the threshold 0.7"):
            write(tmp_path / "t", {"a": BOXES}, threshold=0.7)
        with pytest.raises(DataError, match="threshold nan: not a finite number"):
            write(tmp_path / "t", {"a": BOXES}, threshold=float("nan"))
        seven = BoxFile(np.ones((1, 4), np.float32), np.array([0.7], np.float32))  # as float32 below 0.7 as float64
        write(tmp_path / "t", {"a": seven}, threshold=0.7)

    def test_no_place_to_write(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            write(tmp_path / "file" / "s", {"a": BOXES})


def write_all(path, photos):
    with PackedWriter(path, source_kind="npz", source_name="x") as writer:
        for key, boxes in photos:
            writer.add(key, boxes)


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


class TestDamage:
    @pytest.fixture
    def store(self, tmp_path):
        photos = {
            f"{n}": BoxFile(np.random.default_rng(n).random((9, 4), np.float32), np.ones(9, np.float32))
            for n in range(999)
        }
        write(tmp_path / "s", photos, records_per_shard=600)
        return tmp_path / "s"

    def change(self, store, **fields):
        path = store / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"format": "tfds"}, "not the manifest of a packed box store: 'format' is not 'jaxcolor packed boxes'"),
            ({"version": 2}, "version 2 of the format; this jaxcolor reads 1"),
            ({"source_kind": "xlsx"}, "'source_kind' is 'xlsx', which cannot be"),
            ({"images": "999"}, "'images' is '999'"),
            ({"images": 0}, "'images' is 0"),
            ({"images": True}, "'images' is True"),
            ({"boxes": -1}, "'boxes' is -1"),
            ({"detector": None}, "'detector' is None"),
            ({"note": 1}, "'note' is 1, which cannot be"),
            ({"threshold": "low"}, "'threshold' is 'low'"),
            ({"records_per_shard": 0}, "'records_per_shard' is 0"),
            ({"source_kind": []}, "'source_kind' is"),
        ],
    )
    def test_manifest(self, store, fields, message):
        self.change(store, **fields)
        with pytest.raises(DataError, match=rf"manifest\.json: {message}"):
            PackedStore(store)

    def test_damaged_or_older_stores_can_be_replaced(self, store):
        self.change(store, version=0, images="many")
        assert len(write(store, many(3), replace=True)) == 3
        path = store / "manifest.json"
        fields = json.loads(path.read_text())
        del fields["note"]
        path.write_text(json.dumps(fields))
        with pytest.raises(DataError, match=r"manifest\.json: 'note' is missing\. Pack the boxes again"):
            PackedStore(store)

    def test_manifest_files(self, store):
        for text in ("", "[]", '{"format": "jaxcolor pack', "\x00"):
            (store / "manifest.json").write_text(text)
            with pytest.raises(DataError, match=r"manifest\.json: "):
                PackedStore(store)
        (store / "manifest.json").unlink()
        with pytest.raises(DataError, match=r"manifest\.json: cannot read this manifest: No such file"):
            PackedStore(store)
        with pytest.raises(DataError, match="no boxes here"):
            find_kind(store)

    def test_counts(self, store):
        self.change(store, images=998)
        with pytest.raises(
            DataError, match=r"index_hashes\.npy: is uint64 \(999,\); it must be uint64 \(998,\)\. Pack"
        ):
            PackedStore(store)
        self.change(store, images=999, records_per_shard=500)
        with pytest.raises(
            DataError, match=r"boxes-00000\.array_record: has 600 records; by manifest\.json it has 500"
        ):
            PackedStore(store)

    @pytest.mark.parametrize("name", ["index_hashes.npy", "index_records.npy"])
    def test_index(self, store, name):
        path = store / name
        whole = path.read_bytes()
        for broken in (b"", b"text", whole[:100], whole[:-8]):
            path.write_bytes(broken)
            with pytest.raises(DataError, match=rf"{name}: cannot read this index"):
                PackedStore(store)
        np.save(path, np.array([{}] * 999), allow_pickle=True)
        with pytest.raises(DataError, match=rf"{name}: cannot read this index"):
            PackedStore(store)
        np.save(path, np.zeros(999, np.float64))
        with pytest.raises(DataError, match=rf"{name}: is float64 \(999,\)"):
            PackedStore(store)
        with path.open("wb") as file:
            np.savez(file, a=np.zeros(999))
        with pytest.raises(DataError, match=rf"{name}: is an archive"):
            PackedStore(store)
        path.unlink()
        with pytest.raises(DataError, match=rf"{name}: missing"):
            PackedStore(store)

    def test_index_of_others(self, store):
        path = store / "index_records.npy"
        records = np.load(path)
        np.save(path, records[::-1].copy())
        with pytest.raises(DataError, match="its index does not belong to its records"):
            PackedStore(store).verify()
        np.save(path, records + np.uint32(999))
        with pytest.raises(DataError, match=r"index_records\.npy: names record \d+ of 999"):
            PackedStore(store).read("5")

    def test_shards(self, store):
        path = store / shard_name(1)
        whole = path.read_bytes()
        for broken in (b"", b"text", whole[:70000], whole[: len(whole) // 2]):
            path.write_bytes(broken)
            with pytest.raises(DataError, match=r"boxes-00001\.array_record: cannot read this file: .*Pack") as caught:
                PackedStore(store)
            assert "\n" not in str(caught.value)
        path.unlink()
        with pytest.raises(DataError, match=r"boxes-00001\.array_record: missing"):
            PackedStore(store)

    def test_a_flipped_bit(self, store):
        path = store / shard_name(0)
        whole = bytearray(path.read_bytes())
        whole[20000] ^= 1
        path.write_bytes(whole)
        damaged = PackedStore(store)  # found when it is read
        with pytest.raises(DataError, match=r"boxes-00000\.array_record: record \d+ is damaged"):
            damaged.verify()

    def test_other_boxes_under_the_same_manifest(self, store, tmp_path):
        other = write(tmp_path / "t", {f"{n}": BOXES for n in range(999)}, records_per_shard=600)
        for shard in (0, 1):
            (store / shard_name(shard)).write_bytes((other.path / shard_name(shard)).read_bytes())
        with pytest.raises(DataError, match="not those that were packed"):
            PackedStore(store).verify()
        self.change(store, content_sha256=other.manifest.content_sha256)
        with pytest.raises(DataError, match=r"has 1998 boxes; by manifest\.json it has 8991"):
            PackedStore(store).verify()

    def test_progress_adds_up(self, store):
        counted = []
        PackedStore(store).verify(counted.append)
        assert sum(counted) == 999


class TestPacking:
    def test_from_a_folder(self, tmp_path, capsys):
        folder = npz_folder(tmp_path / "boxes", {"b": BOXES, "a": BoxFile(BOXES.boxes[:0], BOXES.scores[:0])})
        store = pack_store(folder, tmp_path / "new" / "store", detector="by hand")
        assert find_kind(store.path) == "packed"
        assert open_store(store.path).kind == "packed"
        facts = dataclasses.asdict(store.manifest)
        sha = facts.pop("content_sha256")
        assert len(sha) == 64
        assert facts == {
            "source_kind": "npz",
            "source_name": "boxes",
            "detector": "by hand",
            "threshold": None,
            "note": "",
            "images": 2,
            "boxes": 2,
            "records_per_shard": 1 << 18,
        }
        assert list(store.keys()) == ["a", "b"]
        assert "2/2" in capsys.readouterr().err
        with pytest.raises(DataError, match="is a packed box store already"):
            pack_store(store.path, tmp_path / "again")

    def test_a_bad_file_stops_it(self, tmp_path):
        folder = npz_folder(tmp_path / "boxes", {"a": BOXES})
        (folder / "b.npz").write_bytes(b"rubbish")
        with pytest.raises(DataError, match=r"b\.npz: cannot read this box file"):
            pack_store(folder, tmp_path / "s")
        assert beside(folder) == ["boxes"]

    def test_existing_output_costs_no_reading(self, tmp_path):
        with pytest.raises(DataError, match="exists; give --force"):
            pack_store(tmp_path / "gone", tmp_path)

    @pytest.mark.skipif(not VAL.exists(), reason=f"no real photos at {VAL}")
    @pytest.mark.parametrize("name", ["images_bbox", "detections_val2017.json", "instances_val2017.json"])
    def test_real_data(self, tmp_path, name):
        source = open_store(VAL / name)
        store = pack_store(VAL / name, tmp_path / "s")
        assert list(store.keys()) == list(source.keys())
        assert store.note == source.note
        for key in source.keys():  # noqa: SIM118  (a store is no mapping)
            assert_same(store.read(key), source.read(key))
        store.verify()
