"""The list of historical photographs, and the script that takes them out of clones."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from scripts import old_photos

ROOT = Path(__file__).resolve().parents[1]


def test_the_list() -> None:
    photos = old_photos.read_list()
    assert len(photos) == len({photo.name for photo in photos}) == 32
    page = (ROOT / "docs" / "old_photos.md").read_text(encoding="utf-8")
    for photo in photos:
        assert re.fullmatch(r"[0-9a-f]{40}", photo.commit)
        left, top, right, bottom = photo.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert photo.repository in page  # where its terms are


def test_a_photo_is_read_at_its_commit_and_cut(tmp_path: Path) -> None:
    clone = tmp_path / "clones" / "plates"
    clone.mkdir(parents=True)

    def git(*words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", str(clone), *identity, *words], capture_output=True, check=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    scan = np.zeros((90, 40), np.uint8)
    scan[30:60, 10:] = 200
    Image.fromarray(scan).save(clone / "a plate.png")
    git("add", "-A")
    git("commit", "-qm", "a plate")
    commit = git("rev-parse", "HEAD")
    git("rm", "-q", "a plate.png")
    git("commit", "-qm", "gone")
    listed = tmp_path / "list.tsv"
    heading = "name\trepository\tcommit\tpath\tleft\ttop\tright\tbottom\tyear\tshows"
    plate = f"plate\tsomebody/plates\t{commit}\ta plate.png\t0.25\t0.3333\t1\t0.6667\t1910\tnothing"
    listed.write_text(f"{heading}\n{plate}\n{plate.replace('plate', 'other')}\n", encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "scripts.old_photos", "clones", "out", "--list", "list.tsv"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 of 2 photographs written into out\n"
    assert done.stderr == "clones/others: no such folder; clone github.com/somebody/others there\n"
    with Image.open(tmp_path / "out" / "plate.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.full((30, 30), 200))
