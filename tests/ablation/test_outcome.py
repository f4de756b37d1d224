"""What a finished run leaves, read back; and what is refused."""

import json

import numpy as np
import pytest

from jaxcolor.ablation.outcome import (
    RESULT_FILE,
    SCORES_FILE,
    AblationError,
    Cost,
    Outcome,
    read_outcome,
    write_outcome,
)

CONFIG = {"fusion": {"steps": 3, "layers": ("a", "b")}, "eval": {"photos": 2}}
START = {"full": "123", "instance": "456"}
OUTCOME = Outcome(
    ("a", "ü"),
    {"fused": {"psnr": np.array([np.inf, 1 / 3]), "ssim": np.array([np.nan, 0.5])}},
    Cost(1.5, 7, 2.0, 0.1),
    "x",
)


def test_round_trip(tmp_path):
    folder = tmp_path / "variant" / "seed0"
    assert read_outcome(folder, CONFIG) is None
    write_outcome(folder, OUTCOME, CONFIG, START)
    for start in (None, START):
        found = read_outcome(folder, CONFIG, start)
        assert (found.names, found.cost, found.weights_of) == (OUTCOME.names, OUTCOME.cost, "x")
        for metric, values in OUTCOME.scores["fused"].items():
            np.testing.assert_array_equal(found.scores["fused"][metric], values)


def test_another_config_or_start(tmp_path):
    write_outcome(tmp_path, OUTCOME, CONFIG, START)
    other = {**CONFIG, "fusion": {"steps": 4, "layers": ("a", "b")}}
    with pytest.raises(AblationError, match=r"finished with another config \(fusion\.steps: 3 -> 4\); delete"):
        read_outcome(tmp_path, other)
    with pytest.raises(AblationError, match=r"\(full: '123' -> '9'\)"):
        read_outcome(tmp_path, CONFIG, {**START, "full": "9"})


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / RESULT_FILE).write_text("{"),
        lambda folder: (folder / RESULT_FILE).write_text("[]"),
        lambda folder: (folder / RESULT_FILE).write_text(json.dumps({"config": CONFIG})),
        lambda folder: (folder / RESULT_FILE).write_bytes(b"\xff"),
        lambda folder: (folder / SCORES_FILE).unlink(),
        lambda folder: (folder / SCORES_FILE).write_bytes(b"PK\x03\x04 rubbish"),
        lambda folder: (folder / SCORES_FILE).write_bytes(b""),
    ],
)
def test_damaged(tmp_path, damage):
    write_outcome(tmp_path, OUTCOME, CONFIG, START)
    damage(tmp_path)
    with pytest.raises(AblationError, match="cannot read its result; delete the folder") as caught:
        read_outcome(tmp_path, CONFIG)
    assert "\n" not in str(caught.value)
