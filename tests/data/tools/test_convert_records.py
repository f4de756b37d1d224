"""TFRecord to ArrayRecord, by TFDS's file adapters."""

import json
import warnings

import pytest

from jaxcolor.cli import main
from jaxcolor.data.array_records import RecordFile, read_array_record
from jaxcolor.data.tools.convert_records import convert_records, read_preparation, verify_conversion
from jaxcolor.data.types import DataError
from jaxcolor.runtime.atomic import partial_path
from tests.data.tfds_files import preparation, write_tfrecord

SHARDS = [[b"one", b"", b"three" * 1000], [b"four"], [bytes([n]) for n in range(100)]]


@pytest.fixture(scope="module", autouse=True)
def _tensorflow():
    with warnings.catch_warnings():  # TensorFlow uses what Python deprecates
        warnings.simplefilter("ignore")
        pytest.importorskip("tensorflow", reason="no TensorFlow here: pip install 'jaxcolor[prepare]'")


@pytest.fixture
def source(tmp_path):
    return preparation(tmp_path / "source", SHARDS)


def shard(folder, number, kind="array_record", count=3):
    return folder / f"made_up-train.{kind}-{number:05d}-of-{count:05d}"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def info_of(folder):
    return json.loads((folder / "dataset_info.json").read_text())


def test_the_same_records_in_the_same_files(source, tmp_path):
    before = contents(source)
    output = tmp_path / "new" / "folder"
    convert_records(source, output)
    assert [list(read_array_record(shard(output, number))) for number in range(3)] == SHARDS
    assert info_of(output)["fileFormat"] == "array_record"
    assert info_of(output)["splits"][0]["shardLengths"] == ["3", "1", "100"]
    assert (output / "features.json").read_text() == "{}"
    assert contents(source) == before
    assert sorted(p.name for p in output.parent.iterdir()) == ["folder"]
    assert not list(output.glob("*tfrecord*"))
    assert verify_conversion(source, output).counts() == {"train": 104}


def test_old_preparations_do_not_say_their_format(tmp_path):
    source = preparation(tmp_path / "source", SHARDS)
    fields = info_of(source)
    del fields["fileFormat"]
    (source / "dataset_info.json").write_text(json.dumps(fields))
    convert_records(source, tmp_path / "output")
    assert info_of(tmp_path / "output")["fileFormat"] == "array_record"


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[15] ^= 1  # of the first record
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_off, flip])
def test_a_damaged_file_stops_and_the_next_run_resumes(source, tmp_path, damage):
    output, part = tmp_path / "output", partial_path(tmp_path / "output")
    whole = shard(source, 2, "tfrecord").read_bytes()
    damage(shard(source, 2, "tfrecord"))
    with pytest.raises(DataError, match=r"train\.tfrecord-00002-of-00003: damaged, cut off.* record at \d+"):
        convert_records(source, output)
    assert not output.exists()
    assert not list(part.glob("*.tmp"))
    kept = {number: shard(part, number).stat().st_ino for number in (0, 1)}
    shard(source, 2, "tfrecord").write_bytes(whole)
    (part / ".jaxcolor-0a1b2c3d.tmp").touch()  # of a run that was killed
    convert_records(source, output)
    assert {number: shard(output, number).stat().st_ino for number in kept} == kept
    assert [list(read_array_record(shard(output, number))) for number in range(3)] == SHARDS
    assert sorted(contents(output)) == sorted(
        ["dataset_info.json", "features.json", *(shard(output, number).name for number in range(3))]
    )


@pytest.mark.parametrize("change", ["cut off", "other records", "missing", "source changed", "other data set"])
def test_shards_of_an_earlier_run_are_compared_again(source, tmp_path, change):
    output = tmp_path / "output"
    whole = shard(source, 2, "tfrecord").read_bytes()
    shard(source, 2, "tfrecord").write_bytes(b"no records")
    with pytest.raises(DataError):
        convert_records(source, output)
    shard(source, 2, "tfrecord").write_bytes(whole)
    made, expected = shard(partial_path(output), 0), list(SHARDS)
    if change == "cut off":
        made.write_bytes(made.read_bytes()[:100])
    elif change == "other records":
        with RecordFile(made) as file:
            file.write(b"others")
    elif change == "missing":
        made.unlink()
    elif change == "source changed":
        expected[0] = [b"1", b"2", b"3"]
        write_tfrecord(shard(source, 0, "tfrecord"), expected[0])
    else:
        made.rename(made.with_name("other-train.array_record-00000-of-00001"))
    convert_records(source, output)
    assert len(list(output.glob("*array_record*"))) == 3
    assert [list(read_array_record(shard(output, number))) for number in range(3)] == expected
    verify_conversion(source, output)


def test_counts_are_compared_with_dataset_info(tmp_path):
    splits = [{"name": "train", "shardLengths": ["2"]}]
    source = preparation(tmp_path / "source", [[b"a"]], splits=splits)
    with pytest.raises(DataError, match=r"tfrecord-00000-of-00001: has 1 records; by dataset_info\.json it has 2"):
        convert_records(source, tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_verifying_finds_what_differs(source, tmp_path):
    output = tmp_path / "output"
    with pytest.raises(DataError, match="output: no such folder"):
        verify_conversion(source, output)
    convert_records(source, output)
    with RecordFile(shard(output, 1)) as file:
        file.write(b"five")
    with pytest.raises(DataError, match=r"array_record-00001-of-00003: has 1 records of SHA-256 .* the source has 1"):
        verify_conversion(source, output)
    shard(output, 1).write_bytes(b"\0" * 200_000)
    with pytest.raises(DataError, match=r"array_record-00001-of-00003: cannot read this file"):
        verify_conversion(source, output)
    shard(output, 1).unlink()
    with pytest.raises(DataError, match=r"array_record-00001-of-00003: no such file"):
        verify_conversion(source, output)


BAD_INFO = {
    "no JSON": (b"{", "cannot read this file"),
    "a list": (b"[1]", "cannot read this file"),
    "ArrayRecord": ({"fileFormat": "array_record"}, "is ArrayRecord already"),
    "Parquet": ({"fileFormat": "parquet"}, "its file format is 'parquet'"),
    "no splits": ({"splits": []}, "names no splits"),
    "no lengths": ({"splits": [{"name": "train", "numShards": "3"}]}, "has no 'shardLengths'"),
    "a length": ({"splits": [{"name": "train", "shardLengths": ["many"]}]}, "cannot read this file"),
    "a missing shard": ({"splits": [{"name": "train", "shardLengths": ["1"] * 4}]}, "4 of 4 shards are missing"),
    "a way out": ({"name": "../made_up"}, "is not a file of this folder"),
}


@pytest.mark.parametrize("case", BAD_INFO)
def test_a_wrong_dataset_info_is_named(source, case):
    wrong, message = BAD_INFO[case]
    data = wrong if isinstance(wrong, bytes) else json.dumps({**info_of(source), **wrong}).encode()
    (source / "dataset_info.json").write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_preparation(source)
    assert str(source) in str(caught.value)


def test_the_folder_of_the_version_is_pointed_to(tmp_path):
    preparation(tmp_path / "made_up" / "1.0.0", [[b"a"]])
    with pytest.raises(DataError, match=r"there is one in .*made_up/1\.0\.0"):
        read_preparation(tmp_path / "made_up")


def test_the_command(source, tmp_path, capsys):
    output = tmp_path / "output"
    output.mkdir()
    assert main(["data", "convert", str(source), str(output)]) == 1
    assert f"{output}: exists; name another folder" in capsys.readouterr().err
    output.rmdir()
    assert main(["data", "convert", str(source), str(output)]) == 0
    printed = capsys.readouterr()
    assert "\r" not in printed.err
    assert "train: 104 photos" in printed.out
    assert f"--config.data.path={output} --config.data.split=train" in printed.out
    before = contents(output)
    assert main(["data", "convert", "--verify-only", str(source), str(output)]) == 0
    assert "the same 104 records" in capsys.readouterr().out
    assert contents(output) == before
