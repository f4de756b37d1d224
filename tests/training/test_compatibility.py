"""Settings of a checkpoint against those of a run."""

from __future__ import annotations

from jaxcolor.config import Config
from jaxcolor.config_io import setting_differences, to_dict, with_defaults


def test_every_field_that_differs_is_named() -> None:
    theirs, ours = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4}, "e": 5}
    assert setting_differences(theirs, ours) == ["b.c: 2 -> 4", "b.d: 3 -> None", "e: None -> 5"]


def test_a_field_that_came_later_is_at_its_default() -> None:
    defaults = to_dict(Config())
    ours = {name: defaults[name] for name in ("data", "full", "seed")}
    older = {**ours, "data": {key: value for key, value in ours["data"].items() if key != "masks"}}
    assert setting_differences(older, ours) == ["data.masks: None -> False"]
    assert setting_differences(with_defaults(older, ours, defaults), ours) == []
    assert setting_differences(with_defaults({"data": older["data"]}, ours, defaults), ours) == []


def test_a_field_that_came_later_and_is_set_differs() -> None:
    defaults = to_dict(Config())
    ours = {"data": {**defaults["data"], "masks": True}}
    older = {"data": {key: value for key, value in defaults["data"].items() if key != "masks"}}
    assert setting_differences(with_defaults(older, ours, defaults), ours) == ["data.masks: False -> True"]


def test_nothing_is_added_that_ours_does_not_have() -> None:
    assert with_defaults({"data": {"path": "a"}}, {"data": {"path": "b"}, "new": 1}, to_dict(Config())) == {
        "data": {"path": "a"}
    }
