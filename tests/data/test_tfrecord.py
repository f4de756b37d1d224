import gzip
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcolor.data.tools.tfrecord import masked_crc, read_records
from jaxcolor.data.types import DataError
from tests.data.plainly import frame


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Hypothesis runs many examples in one test, so they share a name."""
    return tmp_path_factory.mktemp("records") / "a.tfrecord-00000-of-00001"


RECORDS = st.lists(st.binary(max_size=40), max_size=6)


@given(RECORDS)
def test_records_come_back(file, records):
    assert list(read_records(write(file, b"".join(map(frame, records))))) == records


@given(RECORDS.filter(any), st.data())
def test_a_file_that_is_cut_off_stops_at_the_record_that_is(file, records, data):
    frames = [frame(record) for record in records]
    whole = b"".join(frames)
    end = data.draw(st.integers(1, len(whole) - 1))
    starts = [sum(map(len, frames[:n])) for n in range(len(frames))]
    if end in starts:
        assert len(list(read_records(write(file, whole[:end])))) == starts.index(end)
        return
    with pytest.raises(DataError, match="cut off") as caught:
        list(read_records(write(file, whole[:end])))
    assert f"byte {max(start for start in starts if start < end)}:" in str(caught.value)
    assert f"byte {end};" in str(caught.value)


@given(RECORDS.filter(any), st.data())
def test_a_changed_byte_is_found(file, records, data):
    frames = [frame(record) for record in records]
    whole = bytearray(b"".join(frames))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    starts = [sum(map(len, frames[:n])) for n in range(len(frames))]
    with pytest.raises(DataError) as caught:
        list(read_records(write(file, bytes(whole))))
    if "compressed" not in str(caught.value):
        assert f"byte {max(start for start in starts if start <= place)}:" in str(caught.value)
    assert str(file) in str(caught.value)


@given(st.binary(min_size=1, max_size=64))
def test_any_bytes_are_read_or_refused(file, data):
    try:
        records = list(read_records(write(file, data)))
    except DataError:
        return
    assert b"".join(map(frame, records)) == data


def test_the_checksum_is_the_one_of_tfrecord():
    # What tf.io.TFRecordWriter wrote for the record b"jaxcolor".
    assert frame(b"jaxcolor").hex() == TENSORFLOW_WROTE
    assert masked_crc(b"") == 0xA282EAD8


TENSORFLOW_WROTE = "0800000000000000ff86240f6a6178636f6c6f720e8aca17"


def test_a_length_that_the_file_cannot_fill_takes_no_memory(tmp_path):
    length = struct.pack("<Q", 1 << 60)
    data = length + struct.pack("<I", masked_crc(length)) + b"little"
    with pytest.raises(DataError, match="byte 0: the record that begins here is cut off"):
        list(read_records(write(tmp_path / "a", data)))


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_compressed_files_are_refused_by_name(tmp_path, compress):
    with pytest.raises(DataError, match=r"a: is compressed \((gzip|zlib)\)"):
        list(read_records(write(tmp_path / "a", compress(frame(b"record")))))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a: cannot read this file: No such file"):
        list(read_records(tmp_path / "a"))
