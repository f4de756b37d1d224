"""The table of a stage, at full width, from shapes alone."""

import functools
import re
from typing import Any

import pytest

from jaxcolor.config import Config, ModelConfig, OptimizerConfig, StageConfig
from jaxcolor.models import networks
from jaxcolor.training.param_table import param_table
from jaxcolor.training.stages import STAGES


@functools.cache
def shapes() -> dict[str, Any]:
    return networks.abstract(ModelConfig())


BACKBONE = 34_051_074
CLASSES = 135_953
HEADS = 1_078_266
OUTPUT = 147_584 + 258


def rows(
    name: str, settings: StageConfig, rates: tuple[tuple[str, float], ...] = ()
) -> list[tuple[str, str, int, str, str]]:
    """Tree, modules, parameters, state, learning rate; the widths are those of the header."""
    header, *lines = param_table(STAGES[name], shapes(), settings, rates=rates).splitlines()
    starts = [re.search(rf"\b{word}\b", header).start() for word in ("tree", "modules", "state")]
    found = []
    for line in lines:
        if line[starts[1] - 2 : starts[1]].strip():  # a remark
            continue
        numbers = re.search(r" ([\d,]+)(?=  |$)", line[starts[1] :])
        tree = line[starts[0] : starts[1]].strip()
        modules = line[starts[1] :][: numbers.start()].strip()
        state, _, rate = line[starts[2] :].partition(" ")
        found.append((tree, modules, int(numbers[1].replace(",", "")), state, rate.strip()))
    return found


def test_fusion_as_released() -> None:
    found = rows("fusion", Config().fusion)
    trained = [row for row in found if row[3] == "trained"]
    assert sum(row[2] for row in trained) == HEADS + OUTPUT == 1_226_108
    assert {row[4] for row in trained} == {"5e-05"}
    assert [row[1] for row in trained][:3] == ["trunk: conv10_2", "trunk: output", "fuse_conv1_2"]
    frozen = [row for row in found if row[3] == "frozen"]
    assert sum(row[2] for row in frozen if row[0] == "fusion") == BACKBONE - OUTPUT
    assert frozen[-1] == ("instance", "all, read only", BACKBONE, "frozen", "")
    assert ("fusion", "trunk: conv10_up short1_10", 336_128, "frozen", "") in frozen
    assert found[-2:] == [
        ("", "total trained", HEADS + OUTPUT, "", ""),
        ("", "total frozen in fusion", BACKBONE - OUTPUT, "", ""),
    ]


def test_learning_rates_by_layer() -> None:
    settings = StageConfig(trained="fusion_and_decoder", learning_rate=1e-3)
    rates = OptimizerConfig(layer_rates=r"trunk/=0.2,fuse_conv[12]_=0.5").rates
    found = {row[1]: row[4] for row in rows("fusion", settings, rates) if row[3] == "trained"}
    assert {rate for modules, rate in found.items() if modules.startswith("trunk")} == {"0.0002"}
    assert {modules for modules, rate in found.items() if rate == "0.0005"} == {"fuse_conv1_2", "fuse_conv2_2"}
    split = rows("full", StageConfig(learning_rate=1e-3), OptimizerConfig(layer_rates=r"conv1_1/=0.1").rates)
    assert [(row[1], row[4]) for row in split[:2]] == [("conv1_1", "0.0001"), ("conv1_2 norm1", "0.001")]


def test_fusion_as_in_the_paper() -> None:
    found = rows("fusion", StageConfig(trained="fusion", learning_rate=2e-5))
    trained = [row for row in found if row[3] == "trained"]
    assert sum(row[2] for row in trained) == HEADS
    assert len(trained) == 13
    assert all(row[1].startswith("fuse_") for row in trained)
    # One row again, since all of the block is frozen.
    assert ("fusion", "trunk: conv10_2 conv10_up short1_10", 483_712, "frozen", "") in found


@pytest.mark.parametrize(("name", "count"), [("full", BACKBONE + CLASSES), ("instance", BACKBONE)])
def test_backbones(name: str, count: int) -> None:
    found = rows(name, StageConfig(learning_rate=1e-3))
    *modules, trained, frozen = found
    assert trained == ("", "total trained", count, "", "")
    assert frozen == ("", f"total frozen in {name}", 0, "", "")
    assert sum(row[2] for row in modules) == count
    assert {row[::3] for row in modules} == {(name, "trained")}
    assert [row[1].split()[0] for row in modules[:10]] == [
        *(f"conv{block}_1" for block in range(1, 8)),
        "conv8_2",
        "conv9_3",
        "conv10_2",
    ]


def test_remarks() -> None:
    full = param_table(STAGES["full"], shapes(), StageConfig())
    assert "classes: no loss reads it, its gradient is 0" in full
    assert "running statistics are updated" in full
    fusion = param_table(STAGES["fusion"], shapes(), Config().fusion)
    assert "classes" not in fusion
    assert "running statistics are fixed" in fusion
    without = networks.abstract(ModelConfig(norm="none", width=0.1))
    assert "statistics" not in param_table(STAGES["full"], without, StageConfig())


def test_columns_are_aligned() -> None:
    table = param_table(STAGES["fusion"], shapes(), Config().fusion).splitlines()
    ends = {re.search(r" [\d,]+(?=  trained|  frozen|$)", line).end() for line in table[1:-1]}
    assert ends == {table[0].index("parameters") + len("parameters")}
    assert all(line == line.rstrip() for line in table)
