import os
import pickle
import sys

import pytest

from jaxcolor.cli import main
from jaxcolor.data.boxes.packed import PackedStore
from tests.data.photo_files import write_zip
from tests.detection import toy

BRIGHT = "tests.detection.toy:Bright"

# Beam's own doings are no concern of ours: its warnings are not errors here.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def run(tmp_path, capsys):
    toy.make_photos(tmp_path / "photos", 20)

    def run(*arguments, store="store", detector=BRIGHT, part=4, photos="photos"):
        command = ["boxes", "detect", str(tmp_path / photos), "-o", str(tmp_path / store), "--detector", detector]
        status = main([*command, "--photos-per-part", str(part), *arguments])
        out, err = capsys.readouterr()
        assert "\r" not in err  # a log has lines
        return status, out, err

    return run


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_without_beam(run, monkeypatch, tmp_path):
    for name in ("apache_beam", "jaxcolor.detection.beam"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "jaxcolor.detection.beam")
    status, _, err = run("--beam")
    assert status == 1
    assert "--beam needs Apache Beam" in err
    assert "pip install 'jaxcolor[beam]'" in err
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("beam")
class TestPipeline:
    @pytest.fixture
    def beam(self):
        return pytest.importorskip("apache_beam", reason="needs Apache Beam: pip install 'jaxcolor[beam]'")

    def test_is_the_store_of_a_loop(self, run, tmp_path):
        assert run(store="loop")[0] == 0
        status, out, _ = run("--beam", store="beam", part=3)
        assert (status, out) == (0, f"wrote {tmp_path / 'beam'}: 16 boxes of 20 photos\n")
        assert contents(tmp_path / "beam") == contents(tmp_path / "loop")
        PackedStore(tmp_path / "beam").verify()
        assert sorted(os.listdir(tmp_path)) == ["beam", "loop", "photos"]

    def test_photos_of_a_zip_file(self, run, tmp_path):
        write_zip(tmp_path / "photos.zip", {p.name: p.read_bytes() for p in (tmp_path / "photos").iterdir()})
        assert run(store="loop")[0] == 0
        assert run("--beam", store="beam", photos="photos.zip")[0] == 0
        hashes = {PackedStore(tmp_path / name).manifest.content_sha256 for name in ("loop", "beam")}
        assert len(hashes) == 1

    @pytest.mark.parametrize("beam_again", [["--beam"], []])
    def test_goes_on_where_it_stopped(self, run, tmp_path, monkeypatch, beam_again):
        status, _, err = run("--beam", detector="tests.detection.toy:failing", part=3)
        assert status == 1
        assert "the Beam pipeline failed; what was done is kept: " in err
        assert "out of memory" in err
        done = {name: data for name, data in contents(tmp_path / ".store.detect").items() if name.startswith("part")}
        assert done  # each attempt at a bundle does two parts or so
        seen = []
        find = toy.Bright.find
        monkeypatch.setattr(toy.Bright, "find", lambda self, photo: seen.append(1) or find(self, photo))
        assert run(*beam_again, part=3)[0] == 0
        assert len(seen) == 20 - 3 * len([name for name in done if name.endswith(".json")])
        assert run(store="loop")[0] == 0
        assert contents(tmp_path / "store") == contents(tmp_path / "loop")

    def test_bad_photos(self, run, tmp_path):
        bad = sorted((tmp_path / "photos").iterdir())[5]
        bad.write_bytes(b"")
        status, _, err = run("--beam")
        assert status == 1
        assert err.count(f"left out: {bad}: cannot read this photo") == 1
        assert "1 of 20 photos cannot be read" in err
        assert run("--beam", "--bad-photos", "skip")[0] == 0
        assert len(PackedStore(tmp_path / "store")) == 19

    def test_options_reach_beam(self, run, tmp_path):
        status, _, err = run("--beam", "--beam-option=--runner=NoSuchRunner")
        assert status == 1
        assert "NoSuchRunner" in err
        assert not (tmp_path / "store").exists()

    def test_workers_make_sure(self, run, tmp_path, monkeypatch):
        from jaxcolor.config import DataConfig
        from jaxcolor.data.sources.registry import open_photos
        from jaxcolor.data.types import DataError
        from jaxcolor.detection.beam import DoPart
        from jaxcolor.detection.detector import DetectorSpec
        from jaxcolor.detection.work import Job, Work, identify

        photos = DataConfig(path=str(tmp_path / "photos"))
        identity = identify(open_photos(photos))
        spec = DetectorSpec(BRIGHT)

        def work(detector="bright"):
            return Work(tmp_path / "s", Job(20, identity, detector, 0.5, 9, 3, 4))

        DoPart(work(), photos, spec).setup()
        with pytest.raises(DataError, match="this worker's detector is bright, the job's other"):
            DoPart(work("other"), photos, spec).setup()
        job = work()
        next((tmp_path / "photos").iterdir()).rename(tmp_path / "photos" / "renamed.png")
        with pytest.raises(DataError, match=r"this worker sees other photos in .*photos; do all share that place"):
            DoPart(job, photos, spec).setup()

    def test_workers_open_the_photos_once_in_a_process(self, tmp_path, monkeypatch):
        from jaxcolor.config import DataConfig
        from jaxcolor.detection import beam
        from jaxcolor.detection.detector import DetectorSpec
        from jaxcolor.detection.work import Job, Work, identify

        toy.make_photos(tmp_path / "photos", 20)
        config, opened, open_photos = DataConfig(path=str(tmp_path / "photos")), [], beam.open_photos
        job = Job(20, identify(open_photos(config)), "bright", 0.5, 9, 3, 4)
        monkeypatch.setattr(beam, "open_photos", lambda config: opened.append(config) or open_photos(config))
        sent = pickle.dumps(beam.DoPart(Work(tmp_path / "s", job), config, DetectorSpec(BRIGHT)))
        assert b".png" not in sent  # a recipe, not a list of photos
        received = [pickle.loads(sent) for _ in range(3)]
        for worker in received:
            worker.setup()
        assert opened == [config]
