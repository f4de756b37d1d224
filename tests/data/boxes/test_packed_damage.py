"""Packed stores with something wrong."""

import json

import numpy as np
import pytest

from jaxcolor.data.boxes.packed import PackedStore, shard_name
from jaxcolor.data.boxes.registry import find_kind
from jaxcolor.data.types import Boxes, DataError
from tests.data.boxes.packed_files import BOXES, many, write


class TestDamage:
    @pytest.fixture
    def store(self, tmp_path):
        photos = {
            f"{n}": Boxes(np.random.default_rng(n).random((9, 4), np.float32), np.ones(9, np.float32))
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
