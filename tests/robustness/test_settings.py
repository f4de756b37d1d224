"""Settings that make no sense or cannot be computed, in configs and in the metadata of weights."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxcolor.config import Config, ConfigError, DataConfig, ModelConfig, ScenesConfig
from jaxcolor.config_io import from_dict, to_dict
from jaxcolor.data.collate import crops_per_device
from jaxcolor.data.types import DataError
from jaxcolor.registries import SOURCES
from jaxcolor.weights import native
from jaxcolor.weights.reference import WeightsError

NAN, INFINITE = float("nan"), float("inf")
REFUSED = [
    ("low_chroma", NAN, "nan, which must be at least 0"),
    ("low_chroma", -1.0, "-1.0, which must be at least 0"),
    ("seed", 99999999999999999999, "99999999999999999999, which must be from 0 to 4294967295"),
    ("seed", -1, "-1, which must be from 0 to 4294967295"),
    ("seed", 10**5000, "a number of 16610 bits is too large"),
    ("patience", NAN, "nan, which must be"),
    ("patience", INFINITE, "inf, which must be a finite number"),
    ("patience", 10**400, "a number of 1329 bits is too large"),
    ("full.steps", 1 << 63, "9223372036854775808, which must be less than 2**63"),
    ("full.learning_rate", NAN, "nan, which must be above 0"),
    ("full.learning_rate", INFINITE, "inf, which must be a finite number"),
    ("fusion.crop_visible", NAN, "nan, which must be a finite number"),
    ("optimizer.eps", INFINITE, "inf, which must be a finite number"),
    ("data.seed", -1, "-1, which must be from 0 to 4294967295"),
    ("data.score_threshold", NAN, "nan, which must be a finite number"),
    ("data.max_crops_per_image", NAN, "nan, which must be a finite number"),
    ("data.threads", -1, "-1, which must be from 0 to 1024"),
    ("data.workers", 10**6, "1000000, which must be from 0 to 1024"),
    ("data.cache_side", 10**6, "1000000, which must be from 0 to 4096"),
    ("data.scenes.min_object_side", NAN, "nan, which must be a finite number"),
    ("model.side", 800000, "800000, which must be at most 2048"),
    ("model.width", 1e6, "1000000.0, which must be at most 8"),
    ("model.width", INFINITE, "inf, which must be above 0"),
    ("model.fusion.head_channels", 2_000_000_000, "2000000000, which must be at most 1024"),
    ("eval.sheet_photos", -1, "-1, which must be from 0 to 10000"),
    ("eval.photos", -1, "-1, which must be at least 0"),
    ("eval.batch_size", 0, "0, which must be at least 1"),
    ("eval.native_side", 10**6, "1000000, which must be at most 8192"),
    ("full.batch_size", 10**9, "1000000000, which must be at most 65536"),
    ("full.accumulate", 10**9, "1000000000, which must be at most 65536"),
    ("fusion.crop_visible", -1.0, "-1.0, which must be from 0 to 1"),
    ("objective.perceptual_side", 10**6, "1000000, which must be 0 or from 8 to 2048"),
    ("eval.batch_size", 10**9, "1000000000, which must be at most 65536"),
    ("eval.data.seed", 1 << 32, "4294967296, which must be from 0 to 4294967295"),
]


@pytest.mark.parametrize(
    ("field", "value", "said"), REFUSED, ids=[f"{n}-{field}" for n, (field, *_) in enumerate(REFUSED)]
)
def test_a_value_is_refused_by_the_name_of_its_field(field, value, said):
    values = value
    for part in reversed(field.split(".")):
        values = {part: values}
    with pytest.raises(ConfigError, match="^" + re.escape(f"config.{field}: {said}")) as error:
        from_dict(Config, values)
    assert "\n" not in str(error.value)


def test_what_memory_cannot_hold_is_refused_where_it_is_used():
    with pytest.raises(DataError, match=r"^data\.scenes\.length: .* at most \d+$"):
        SOURCES.get("scenes")(DataConfig(source="scenes", scenes=ScenesConfig(length=10**15)), 64)
    with pytest.raises(DataError, match=r"^data\.max_crops_per_image: .* at most \d+$"):
        crops_per_device(4, 1e30)


@pytest.mark.parametrize(
    ("field", "value"), [("side", 16384), ("width", 1e6), ("fusion", {"head_channels": 2_000_000_000}), ("width", NAN)]
)
def test_weights_that_ask_for_too_much(field, value, tmp_path):
    config = to_dict(ModelConfig()) | {field: value}
    about = {"format": native.FORMAT, "version": "0", "config": config, "trees": ["full"], "note": ""}
    path = tmp_path / "w.safetensors"
    save_file({"a": np.zeros(1, np.float32)}, path, {native.METADATA_KEY: json.dumps(about)})
    with pytest.raises(
        WeightsError, match=rf"w\.safetensors: its config makes no networks here \(model\.{field}.* must be"
    ):
        native.load(path)
