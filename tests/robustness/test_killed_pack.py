"""What a killed ``boxes pack`` leaves is removed by the next one; what a living one works on is not."""

import os
import signal
import subprocess
import sys

from jaxcolor.data.boxes.packed_writer import PackedWriter
from jaxcolor.data.types import no_boxes

KILLED = """
import os, pathlib, signal, sys
from jaxcolor.data.boxes.packed_writer import PackedWriter
from jaxcolor.data.types import no_boxes
with PackedWriter(pathlib.Path(sys.argv[1]), source_kind="npz", source_name="a") as writer:
    writer.add("a", no_boxes())
    os.kill(os.getpid(), signal.SIGKILL)
"""


def write(path, **options):
    return PackedWriter(path, source_kind="npz", source_name="a", **options)


def test_leftovers(tmp_path):
    path = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    with write(tmp_path / "living") as living:
        living.add("a", no_boxes())
        with write(path) as writer:
            assert left not in os.listdir(tmp_path)
            writer.add("a", no_boxes())
            with write(path) as other:  # beside a living one of the same name
                other.add("b", no_boxes())
                assert len([name for name in os.listdir(tmp_path) if name.startswith(".store")]) == 2
                os.mkdir(tmp_path / ".store.part")  # somebody else's
            path.rename(tmp_path / "first")
    assert sorted(os.listdir(tmp_path)) == [".store.part", "first", "living", "store"]
    assert "lock" not in os.listdir(path)
