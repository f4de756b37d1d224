"""A metric that is defined here, outside the package, and named by its dotted path."""

import csv
import io
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import Config, DataConfig, EvalConfig
from jaxcolor.evaluation.metrics import Metric
from jaxcolor.evaluation.metrics.masking import extent_mask, masked_mean
from jaxcolor.evaluation.predictors import Checkpoint
from jaxcolor.evaluation.run import compare, write_page, write_results
from jaxcolor.evaluation.run import eval_source as open_source
from jaxcolor.evaluation.scorer import choose
from jaxcolor.runtime.errors import UserError
from tests import small

SIDE = 16


def red_error(gain: jax.Array, prediction: jax.Array, truth: jax.Array, *, size: jax.Array | None) -> jax.Array:
    """Mean absolute error of red, with a parameter."""
    error = gain * jnp.abs(prediction[..., 0].astype(jnp.float32) - truth[..., 0])
    return masked_mean(error, None if size is None else extent_mask(size, *error.shape[1:]))


METRIC = Metric(
    "red_error",
    red_error,
    "red error",
    digits=1,
    direction="lower",
    group="Mine",
    of_objects=True,
    load=lambda path: jnp.float32(2.0),
)
TAKEN = Metric("psnr", red_error, "another PSNR")
NO_METRIC = "red_error"
PATH = "tests.extending.test_metric:METRIC"


def test_it_is_measured_and_shown_everywhere(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for folder in (photos, tmp_path / "boxes"):
        folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(small.photo(rng)).save(photos / f"{name}.png")
        np.savez(
            tmp_path / "boxes" / f"{name}.npz", bbox=np.array([[2, 2, 14, 15]], np.float32), scores=np.ones(1, "f4")
        )
    data = DataConfig(path=str(photos), boxes_path=str(tmp_path / "boxes"), truth_boxes_path=str(tmp_path / "boxes"))
    config = Config(
        model=small.TWO, eval=EvalConfig(data=data, batch_size=2, metrics=f"colorfulness_hs, {PATH}", report_photos=0)
    )
    checkpoints = [Checkpoint("", small.TWO, {"full": small.variables(small.TWO)["full"]})]
    source = open_source(config, small.TWO)
    results = compare(config, checkpoints, source=source)
    truth, gray = (next(iter(results.pictures)).panels[name] for name in ("truth", "gray"))
    expected = 2 * np.abs(gray[..., 0].astype(float) - truth[..., 0]).mean()
    np.testing.assert_allclose(results.scores["gray"]["red_error"][0], expected, rtol=1e-5)
    assert results.objects.scores["full"]["red_error"].shape == (2,)

    metrics = write_results(results, tmp_path / "out")
    assert metrics["gray"]["red_error"] == pytest.approx(results.scores["gray"]["red_error"].mean())
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["columns"]["red_error"]["title"] == "red error"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "per_photo.csv").read_text())))
    assert {row["name"] for row in rows if row["red_error"]} == {"a", "b"}
    text = (tmp_path / "out" / "tables.md").read_text()
    assert re.search(r"\| Mine +\| +red error \|", text)
    assert r"red error $\downarrow$" in (tmp_path / "out" / "tables.tex").read_text()
    page = tmp_path / "out" / "report.html"
    write_page(config, checkpoints, source=source, results=results, metrics=metrics, path=page)
    assert '{"key":"red_error","title":"red error","digits":1,"better":-1}' in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("tests.extending.test_metric:TAKEN", "the name 'psnr' is taken; rename your metric 'another PSNR'"),
        (f"{PATH},tests.extending.test_metric:METRIC", None),
        ("tests.extending.test_metric:NO_METRIC", r"NO_METRIC is no jaxcolor\.evaluation\.metrics\.Metric but a str"),
        ("tests.extending.test_metric:MISSING", "has no attribute MISSING"),
        (
            "fid",
            r"fid needs weights, whose file config\.eval\.inception names: give those of pytorch-fid",
        ),
    ],
)
def test_what_names_no_metric(asked: str, message: str | None) -> None:
    if message is None:
        assert choose(EvalConfig(metrics=asked), 64).metrics[-1] == "red_error"
        return
    with pytest.raises(UserError, match=rf"config\.eval\.metrics: .*{message}"):
        choose(EvalConfig(metrics=asked), 64)


def test_a_name_that_is_no_key() -> None:
    with pytest.raises(ValueError, match="lower-case letters, digits and underscores, not 'Red error'"):
        Metric("Red error", red_error, "red error")
