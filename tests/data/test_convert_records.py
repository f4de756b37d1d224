import json
import multiprocessing
import os
import signal
import time

import pytest

from jaxcolor.cli import main
from jaxcolor.data.array_records import RecordFile, read_array_record
from jaxcolor.data.tools import convert_records as module
from jaxcolor.data.tools.convert_records import JOURNAL, convert_records, verify_conversion
from jaxcolor.data.tools.dataset_info import read_preparation
from jaxcolor.data.types import DataError
from jaxcolor.runtime.atomic import partial_path
from jaxcolor.runtime.errors import UserError
from tests.data.plainly import frame
from tests.data.tfds_files import preparation

SHARDS = [[b"one", b"", b"three" * 1000], [b"four"], [bytes([n]) for n in range(100)]]


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
    assert (output / "features.json").read_text() == "{}"
    assert contents(source) == before
    assert sorted(p.name for p in output.parent.iterdir()) == ["folder"]
    verify_conversion(source, output)


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"),
        ("{SPLIT}.tfrecord-{SHARD_INDEX}", "{SPLIT}.array_record-{SHARD_INDEX}"),
    ],
)
def test_file_names_follow_the_template(tmp_path, template, wanted):
    split = {"name": "train", "shardLengths": [1], "filepathTemplate": template}
    source = preparation(tmp_path / "source", [[b"a"]], splits=[split])
    if "SHARD_INDEX" in template:
        shard(source, 0, "tfrecord", 1).rename(source / "train.tfrecord-00000")
    convert_records(source, tmp_path / "output")
    assert info_of(tmp_path / "output")["splits"][0]["filepathTemplate"] == wanted
    name = "train.array_record-00000" if "SHARD_INDEX" in template else "made_up-train.array_record-00000-of-00001"
    assert list(read_array_record(tmp_path / "output" / name)) == [b"a"]


def test_old_preparations_say_neither_format_nor_template(tmp_path):
    source = preparation(tmp_path / "source", SHARDS)
    fields = info_of(source)
    del fields["fileFormat"]
    (source / "dataset_info.json").write_text(json.dumps(fields))
    convert_records(source, tmp_path / "output")
    assert info_of(tmp_path / "output")["fileFormat"] == "array_record"


def test_an_interrupted_run_goes_on_with_the_shards_that_are_whole(source, tmp_path):
    output = tmp_path / "output"
    whole = shard(source, 2, "tfrecord").read_bytes()
    shard(source, 2, "tfrecord").write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"train\.tfrecord-00002-of-00003: byte 1683: .* cut off"):
        convert_records(source, output)
    assert not output.exists()
    kept = {number: shard(partial_path(output), number).stat().st_ino for number in (0, 1)}
    shard(source, 2, "tfrecord").write_bytes(whole)
    convert_records(source, output)
    assert {number: shard(output, number).stat().st_ino for number in kept} == kept
    assert [list(read_array_record(shard(output, number))) for number in range(3)] == SHARDS
    assert not list(output.glob("*.part"))
    assert not (output / "lock").exists()


@pytest.mark.parametrize("damage", ["cut off", "other records", "missing", "journal", "source changed"])
def test_what_is_not_as_it_was_noted_is_made_again(source, tmp_path, damage):
    output = tmp_path / "output"
    whole = shard(source, 2, "tfrecord").read_bytes()
    shard(source, 2, "tfrecord").write_bytes(b"no records")
    with pytest.raises(DataError):
        convert_records(source, output)
    shard(source, 2, "tfrecord").write_bytes(whole)
    made, expected = shard(partial_path(output), 0), list(SHARDS)
    if damage == "cut off":
        made.write_bytes(made.read_bytes()[:100])
    elif damage == "other records":
        with RecordFile(made) as file:
            file.write(b"others")
    elif damage == "missing":
        made.unlink()
    elif damage == "journal":
        (partial_path(output) / JOURNAL).write_text('{"format": ')
    else:
        expected[0] = [b"1", b"2", b"3"]
        shard(source, 0, "tfrecord").write_bytes(b"".join(map(frame, expected[0])))
    convert_records(source, output)
    assert [list(read_array_record(shard(output, number))) for number in range(3)] == expected
    verify_conversion(source, output)


def _convert_slowly(source, output):
    note = module._Journal.note

    def slow(self, shard, digest):
        note(self, shard, digest)
        time.sleep(60)

    module._Journal.note = slow
    convert_records(source, output)


def test_a_killed_run_goes_on_and_two_do_not_meet(source, tmp_path):
    output = tmp_path / "output"
    process = multiprocessing.get_context("spawn").Process(target=_convert_slowly, args=(source, output))
    process.start()
    journal = partial_path(output) / JOURNAL
    while not journal.exists():
        assert process.is_alive()
        time.sleep(0.05)
    with pytest.raises(UserError, match="output: another process is making it"):
        convert_records(source, output)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    process.close()
    made = shard(partial_path(output), 0).stat().st_ino
    convert_records(source, output)
    assert shard(output, 0).stat().st_ino == made
    verify_conversion(source, output)


def test_counts_are_compared_with_dataset_info(tmp_path):
    splits = [{"name": "train", "shardLengths": ["2"]}]
    source = preparation(tmp_path / "source", [[b"a"]], splits=splits)
    with pytest.raises(DataError, match=r"tfrecord-00000-of-00001: has 1 records; by dataset_info\.json it has 2"):
        convert_records(source, tmp_path / "output")


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
    "no JSON": (b"{", "is no JSON"),
    "a list": (b"[]", "'name' is no name"),
    "ArrayRecord": ({"fileFormat": "array_record"}, "is ArrayRecord already"),
    "Parquet": ({"fileFormat": "parquet"}, "its file format is 'parquet'"),
    "no splits": ({"splits": []}, "names no splits"),
    "no lengths": ({"splits": [{"name": "train", "numShards": "3"}]}, "has no 'shardLengths'"),
    "a length": ({"splits": [{"name": "train", "shardLengths": ["-1"]}]}, "'-1', which is no count"),
    "a bool": ({"splits": [{"name": "train", "shardLengths": [True]}]}, "True, which is no count"),
    "a missing shard": ({"splits": [{"name": "train", "shardLengths": ["1"] * 4}]}, "4 of 4 shards are missing"),
    "a way out": ({"name": "../made_up"}, "cannot be understood"),
    "one name": (
        {"splits": [{"name": "train", "shardLengths": [1, 1], "filepathTemplate": "a.{FILEFORMAT}"}]},
        "two shards have one file name",
    ),
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
    assert "train: 104 photos" in printed.out
    assert f"--config.data.path={output} --config.data.split=train" in printed.out
    before = contents(output)
    assert main(["data", "convert", str(source), str(output)]) == 0
    assert "nothing done" in capsys.readouterr().out
    assert main(["data", "convert", "--verify-only", str(source), str(output)]) == 0
    assert "the same 104 records" in capsys.readouterr().out
    assert contents(output) == before
