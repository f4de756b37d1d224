"""A source of photos from outside the package: named by a dotted path, nothing in the package edited."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from jaxcolor.config import Config, ConfigError, DataConfig
from jaxcolor.config_io import from_dict
from jaxcolor.data.loader import eval_batches, train_batches
from jaxcolor.data.sources.registry import make_source
from jaxcolor.data.types import DataError, Photo, Source
from jaxcolor.runtime.errors import UserError

SIDE = 16
NAME = f"{__name__}:Stripes"


class Stripes:
    """``data.split`` photos of one color each, twice as wide as high; every second one has a box."""

    def __init__(self, config: DataConfig, side: int) -> None:
        self.count = int(config.split)
        self.size = (4 * side, 2 * side)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Photo:
        if not 0 <= index < self.count:
            raise IndexError(index)
        width, height = self.size
        boxes = np.array([[0, 0, width / 2, height]] * (index % 2), np.float32).reshape(-1, 4)
        image = Image.new("RGB", self.size, (200, 10 * index, 0))
        return Photo(f"stripe {index}", image, boxes, np.ones(len(boxes), np.float32))

    def picture(self, index: int, least_side: int | None = None) -> Photo:
        return self[index]

    def crop_count(self, index: int) -> int:
        return index % 2

    def with_boxes(self) -> Sequence[int]:
        return range(1, self.count, 2)

    def describe(self) -> str:
        return f"{self.count} stripes"


def no_source(config: DataConfig, side: int) -> object:
    return [config, side]


def test_batches_of_it() -> None:
    data = from_dict(Config, {"data": {"source": NAME, "split": "6", "threads": 0}}).data
    source = make_source(data, SIDE)
    assert isinstance(source, Stripes)
    assert isinstance(source, Source)
    with eval_batches(source, data, side=SIDE, batch_size=3) as batches:
        first, second = batches
    assert first.names + second.names == tuple(f"stripe {number}" for number in range(6))
    assert [photo[0, 0].tolist() for photo in second.batch.full_rgb] == [[200, 10 * n, 0] for n in (3, 4, 5)]
    assert second.batch.crop_to_image[:3].tolist() == [0, 2, -1]
    assert second.batch.level_boxes[0, 0].tolist() == [0, 0, SIDE // 2, SIDE]
    with train_batches(source, data, parts="instance", side=SIDE, batch_size=3) as batches:
        assert sorted(next(batches).names) == ["stripe 1", "stripe 3", "stripe 5"]


def test_a_name_that_is_none_stops_the_config() -> None:
    with pytest.raises(ConfigError, match=r"^config\.data\.source: data source 'foldr': no such name; .*mean folder\?"):
        from_dict(Config, {"data": {"source": "foldr"}})


def test_what_a_dotted_path_may_lack() -> None:
    with pytest.raises(UserError, match=r"^data source '.*:Stripe': module .* did you mean Stripes\?$"):
        make_source(DataConfig(source=NAME[:-1]), SIDE)
    with pytest.raises(DataError, match=r"^data\.source: .*:no_source made a list, which lacks methods of Source$"):
        make_source(DataConfig(source=f"{__name__}:no_source"), SIDE)
