import filecmp
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxcolor.cli import main
from jaxcolor.data.boxes.npz import read_npz
from jaxcolor.data.boxes.packed import PackedStore
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.types import Boxes
from jaxcolor.detection import detector as detector_module
from jaxcolor.detection.detector import DetectorError, DetectorSpec
from jaxcolor.detection.parts import keep
from jaxcolor.detection.work import Job, Work
from tests.detection import toy

ROOT = Path(__file__).parents[2]
BRIGHT = "tests.detection.toy:Bright"


@pytest.fixture
def photos(tmp_path):
    return toy.make_photos(tmp_path / "photos", 20)


@pytest.fixture
def run(photos, tmp_path, capsys):
    """Runs the command; answers exit status, what was printed, errors."""

    def run(*arguments, store="store", detector=BRIGHT, part=4):
        command = ["boxes", "detect", str(photos), "-o", str(tmp_path / store), "--detector", detector]
        status = main([*command, "--photos-per-part", str(part), *arguments])
        out, err = capsys.readouterr()
        assert "\r" not in err  # a log has lines
        return status, out, err

    return run


def hidden(folder):
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("."))


def snapshot(folder):
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def same_folder(a, b):
    names = sorted(os.listdir(a))
    assert names == sorted(os.listdir(b))
    matches, wrong, errors = filecmp.cmpfiles(a, b, names, shallow=False)
    assert (wrong, errors) == ([], [])
    return len(matches)


class TestStore:
    def test_boxes_lie_where_the_objects_are(self, run, photos, tmp_path):
        before = snapshot(photos)
        status, out, err = run()
        assert status == 0
        assert out == f"wrote {tmp_path / 'store'}: 16 boxes of 20 photos\n"
        assert "bright: boxes with scores of at least 0.5" in err
        store = open_store(tmp_path / "store")
        assert list(store.keys()) == sorted(p.stem for p in photos.iterdir())
        for number in range(20):
            found = store.read(f"{number * 37 % 101:03d}_{number}")
            box = toy.rectangle(number)
            assert found.boxes.tolist() == ([] if box is None else [list(box)])
            assert (found.scores > 0.5).all()
        store.verify()
        assert (store.manifest.detector, store.manifest.threshold) == ("bright on gray (L* in 8 bits)", 0.5)
        assert store.manifest.source_name == "photos"
        assert hidden(tmp_path) == []
        assert snapshot(photos) == before

    def test_npz(self, run, tmp_path):
        assert run("--format", "npz", store="b")[0] == 0
        assert run()[0] == 0
        packed, files = PackedStore(tmp_path / "store"), open_store(tmp_path / "b")
        assert (files.kind, len(files)) == ("npz", 20)
        for key in packed.keys():  # noqa: SIM118  (a store is no mapping)
            np.testing.assert_array_equal(files.read(key).boxes, packed.read(key).boxes)
        assert len(read_npz(next((tmp_path / "b").iterdir())).boxes) in (0, 1)
        assert "b: exists; give --force to replace it" in run("--format", "npz", store="b")[2]
        assert run("--format", "npz", "--force", store="b")[0] == 0
        (tmp_path / "b" / "notes.txt").write_text("mine")
        assert "is no folder of .npz files alone: not replaced" in run("--format", "npz", "--force", store="b")[2]
        assert (tmp_path / "b" / "notes.txt").read_text() == "mine"

    def test_what_exists_stays(self, run, photos, tmp_path):
        assert run()[0] == 0
        before = snapshot(tmp_path / "store")
        assert run()[2].endswith("store: exists; give --force to replace it\n")
        assert "is no packed box store: not replaced" in run("--force", store="photos")[2]
        assert snapshot(tmp_path / "store") == before
        assert run("--force", "--threshold", "0.05", "--max-boxes", "9")[1].endswith("32 boxes of 20 photos\n")
        assert len(list(photos.iterdir())) == 20

    def test_parts_and_batches_leave_no_trace(self, run, tmp_path):
        for number, part in enumerate((1, 3, 7, 100)):
            assert run("--batch", str(number + 1), store=f"s{number}", part=part)[0] == 0
            assert same_folder(tmp_path / "s0", tmp_path / f"s{number}") == 4

    def test_most_boxes(self, run, tmp_path):
        assert run("--threshold", "0.05", "--max-boxes", "1")[0] == 0
        store = PackedStore(tmp_path / "store")
        assert store.manifest.boxes == 16
        assert all((store.read(key).scores > 0.5).all() for key in store.keys())  # noqa: SIM118

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--threshold", "1.5"], "--threshold 1.5: scores are from 0 to 1"),
            (["--threshold", "nan"], "--threshold nan"),
            (["--batch", "0"], "--batch 0"),
            (["--max-boxes", "0"], "--max-boxes 0"),
            (["--beam-option=--runner=X"], "--beam-option is for --beam"),
        ],
    )
    def test_senseless_numbers(self, run, tmp_path, arguments, message):
        status, _, err = run(*arguments)
        assert status == 1
        assert message in err
        assert sorted(os.listdir(tmp_path)) == ["photos"]


class TestBadPhotos:
    @pytest.fixture
    def bad(self, photos):
        names = sorted(p.name for p in photos.iterdir())
        (photos / names[0]).write_bytes(b"no photo")
        (photos / names[9]).write_bytes((photos / names[9]).read_bytes()[:50])
        return [names[0], names[9]]

    def test_error(self, run, photos, bad, tmp_path):
        status, out, err = run()
        assert (status, out) == (1, "")
        for name in bad:
            assert err.count(f"left out: {photos / name}: cannot read this photo") == 1
        stems = ", ".join(name[:-4] for name in bad)
        assert f"jaxcolor boxes: 2 of 20 photos cannot be read: {stems}; no store was written" in err
        assert not (tmp_path / "store").exists()

        # Mended, only what was missing is done.
        for name in bad:
            (photos / name).write_bytes((photos / sorted(os.listdir(photos))[1]).read_bytes())
        status, out, err = run()
        assert (status, out.endswith("of 20 photos\n")) == (0, True)
        assert "detect: 12 of 20 photos done before" in err  # three of five parts

    def test_skip_uses_what_was_done(self, run, bad, tmp_path):
        run()
        status, out, _ = run("--bad-photos", "skip")
        assert status == 0
        assert "of 18 photos; 2 of 20 photos cannot be read: " in out
        store = PackedStore(tmp_path / "store")
        assert len(store) == 18
        assert bad[0][:-4] not in store
        assert store.note.startswith("2 of 20 photos cannot be read: ")
        store.verify()

    def test_none_can_be_read(self, run, photos, tmp_path):
        for path in photos.iterdir():
            path.write_bytes(b"")
        status, _, err = run("--bad-photos", "skip")
        assert status == 1
        assert "20 of 20 photos cannot be read" in err
        assert not (tmp_path / "store").exists()


class TestResuming:
    def test_goes_on_after_an_error(self, run, tmp_path, monkeypatch):
        with pytest.raises(RuntimeError, match="out of memory"):
            run(detector="tests.detection.toy:failing", part=3)
        assert hidden(tmp_path) == [".store.detect"]
        before = snapshot(tmp_path / ".store.detect")
        assert len([name for name in before if name.startswith("part")]) == 4  # two parts
        seen = []
        find = toy.Bright.find
        monkeypatch.setattr(toy.Bright, "find", lambda self, photo: seen.append(1) or find(self, photo))
        assert run(part=3)[0] == 0
        assert len(seen) == 14
        monkeypatch.undo()
        assert run(store="straight", part=5)[0] == 0
        assert same_folder(tmp_path / "store", tmp_path / "straight") == 4

    def test_another_job_does_not_go_on(self, run, photos, tmp_path):
        with pytest.raises(RuntimeError):
            run(detector="tests.detection.toy:failing", part=3)
        status, _, err = run("--threshold", "0.1", part=2)
        assert status == 1
        assert "unfinished work of another run: threshold, photos_per_part differ; repeat" in err
        (photos / "new.png").write_bytes(next(photos.iterdir()).read_bytes())
        assert "photos, photos_identity differ" in run(part=3)[2]
        (tmp_path / ".store.detect" / "job.json").write_text("rubbish")
        assert "unfinished work of another run" in run(part=3)[2]
        assert run("--restart", part=3)[0] == 0

    def test_photos_that_were_replaced_are_looked_at_again(self, run, photos, tmp_path):
        with pytest.raises(RuntimeError):
            run(detector="tests.detection.toy:failing", part=3)  # two parts are done
        names = sorted(p.name for p in photos.iterdir())
        before = (photos / names[1]).read_bytes()
        other = next(p for p in photos.iterdir() if p.stat().st_size != len(before)).read_bytes()
        (photos / names[1]).write_bytes(other)
        status, _, err = run(part=3)
        assert status == 0
        assert "photos were replaced since they were looked at; parts done again: 1\n" in err
        assert "detect: 3 of 20 photos done before" in err
        assert run(store="straight")[0] == 0
        assert same_folder(tmp_path / "store", tmp_path / "straight") == 4

    def test_damaged_parts_are_done_again(self, run, tmp_path):
        with pytest.raises(RuntimeError):
            run(detector="tests.detection.toy:failing", part=3)
        work = tmp_path / ".store.detect"
        (work / "part-00000.json").write_text("{")
        records = work / "part-00001.array_record"
        data = bytearray(records.read_bytes())
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
        records.write_bytes(data)
        (work / ".part-00002.json.1234.part").write_text("left by a killed process")
        status, _, err = run(part=3)
        assert status == 1
        assert "part-00001.array_record: is damaged" in err
        assert hidden(tmp_path) == [".store.detect"]
        assert run(part=3)[0] == 0
        assert run(store="straight")[0] == 0
        assert same_folder(tmp_path / "store", tmp_path / "straight") == 4

    def test_one_run_at_a_time(self, run, tmp_path):
        work = Work(tmp_path / "store", Job(1, "", "", 0.0, 1, 1, 1))
        with work.alone():
            assert "another run is at work on it" in run()[2]
        assert run()[0] == 0
        assert hidden(tmp_path) == []

    def test_killed_again_and_again(self, photos, tmp_path, run):
        """Killed at random moments, it still gives the store of a run that nobody disturbed."""
        rng, store = random.Random(7), tmp_path / "store"
        command = [
            sys.executable,
            "-c",
            "import sys; from jaxcolor.cli import main; sys.exit(main())",
            "boxes",
            "detect",
        ]
        command += [str(photos), "-o", str(store), "--detector", "tests.detection.toy:slow", "--photos-per-part", "1"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TOY_PAUSE": "0.15"}
        work, done, kills = tmp_path / ".store.detect", 0, 0
        deadline = time.monotonic() + 60
        for _ in range(3):
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while len(list(work.glob("part-*.json"))) <= done and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            time.sleep(rng.random() * 0.3)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            assert not store.exists()
            done = len(list(work.glob("part-*.json")))
        assert kills == 3
        assert 3 <= done < 20
        finished = subprocess.run(
            command, env=environment | {"TOY_PAUSE": "0"}, capture_output=True, text=True, timeout=60
        )
        assert finished.returncode == 0, finished.stderr
        assert f"detect: {done} of 20 photos done before" in finished.stderr
        assert run(store="straight")[0] == 0
        assert same_folder(store, tmp_path / "straight") == 4
        assert hidden(tmp_path) == []


class TestDetectors:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("yolo", "no such detector; it is own, a .tflite or .onnx file, maskrcnn_resnet50_fpn or"),
            ("no.such:thing", "cannot be imported: No module named 'no'; is its folder in PYTHONPATH"),
            ("tests.detection.toy:gone", "no 'gone' in 'tests.detection.toy'"),
            ("tests.detection.toy:", "no '' in"),
            (":make", "no 'make' in ''"),
            ("tests.detection.toy:NUMBER", "is no function or class that makes a detector"),
            ("tests.detection.toy:nothing", "is no detector: it has no name, batch_size, threshold, detect"),
            ("gone.onnx", "gone.onnx: cannot read this file: No such file"),
        ],
    )
    def test_names_that_are_none(self, run, tmp_path, name, message):
        status, _, err = run(detector=name)
        assert status == 1
        assert message in err
        assert err.count("\n") == 1
        assert sorted(os.listdir(tmp_path)) == ["photos"]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("wrong", "detector bright: gave boxes (2, 4), scores (1,); not (N, 4) and (N,)"),
            ("forgetful", "detector bright: gave boxes for 2 photos of 3"),
        ],
    )
    def test_wrong_answers(self, run, name, message):
        status, _, err = run(detector=f"tests.detection.toy:{name}")
        assert status == 1
        assert message in err

    def test_keep(self):
        job = Job(1, "", "", 0.7, 2, 1, 1)
        boxes = [[-5, 1, 4, 50], [0, 0, 9, 9], [30, 0, 40, 9], [1, 1, 2, 2], [2, 2, 2.5, 9], [np.nan] * 4, [3, 3, 9, 9]]
        scores = [0.8, 0.69, 0.99, 0.7, 0.99, 0.99, 0.9]
        kept = keep("d", Boxes(np.array(boxes, np.float32), np.array(scores, np.float32)), (10, 20, 3), job)
        assert kept.boxes.tolist() == [[3, 3, 9, 9], [0, 1, 4, 10]]
        np.testing.assert_array_equal(kept.scores, np.array([0.9, 0.8], np.float32))

    def test_threads(self, monkeypatch):
        assert DetectorSpec("x", threads=3).thread_count == 3
        assert DetectorSpec("x").thread_count >= 1
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        assert DetectorSpec("x").thread_count == 1
        with pytest.raises(DetectorError, match="gone: cannot read this file"):
            detector_module.file_sha256(Path("gone"))
