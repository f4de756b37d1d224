"""``jaxcolor data prior``: what is counted, and that training reads it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxcolor import cli, color
from jaxcolor.training.prior import load_prior

COLORS = [(200, 30, 30), (30, 60, 200), (200, 30, 30)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, rgb in enumerate(COLORS):
        Image.new("RGB", (20, 30), rgb).save(folder / f"{i}.png")
    return folder


def bins() -> np.ndarray:
    rgb = color.unit_rgb(np.array(COLORS, np.uint8))
    return np.asarray(color.ab_to_bin(color.normalize_lab(color.rgb_to_lab(rgb))[1]))


def test_the_shares_of_the_photos_colors(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "prior.npz"
    assert cli.main(["data", "prior", str(photos), "-o", str(output)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{output}: 2 of 529 colors in 3 photos", f"to train with it: --config.objective.prior={output}"]
    expected = np.bincount(bins(), minlength=color.BINS) / 3
    np.testing.assert_allclose(load_prior(output), expected)
    with np.load(output) as arrays:
        assert str(photos) in str(arrays["source"])

    assert cli.main(["data", "prior", str(photos), "-o", str(output)]) == 1
    assert "exists" in capsys.readouterr().err
    assert cli.main(["data", "prior", str(photos), "-o", str(output), "--force", "--count", "1"]) == 0
    assert load_prior(output)[bins()[0]] == 1


def test_what_cannot_be_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "prior", str(tmp_path / "none"), "-o", str(tmp_path / "p.npz")]) == 1
    assert "none" in capsys.readouterr().err
    for arguments, said in (
        (["-o", "p.json"], "does not end in .npz"),
        (["-o", "p.npz", "--count", "-1"], "--count -1"),
    ):
        with pytest.raises(SystemExit):
            cli.main(["data", "prior", str(tmp_path), *arguments])
        assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("*.npz"))
