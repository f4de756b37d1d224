"""The house: imports run one way and in no circle, files stay short, and the code in docs/architecture.md runs."""

from __future__ import annotations

import ast
import functools
import re
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcolor
from jaxcolor import resample
from jaxcolor.config import DataConfig, EvalConfig, FusionConfig, ModelConfig
from jaxcolor.data.boxes.registry import open_store
from jaxcolor.data.loader import eval_batches
from jaxcolor.data.sources.registry import make_source
from jaxcolor.evaluation.metrics.registry import chosen
from jaxcolor.models import networks
from jaxcolor.models.fusion import Instances, fused_taps
from jaxcolor.registries import OUTPUTS
from tests import small

PACKAGE = Path(jaxcolor.__file__).parent
ROOT = PACKAGE.parent
ARCHITECTURE = ROOT / "docs" / "architecture.md"

ORDER: tuple[frozenset[str], ...] = tuple(
    frozenset(row.split())
    for row in (
        "runtime",
        "batch",
        "color boxes resample registries",
        "config",
        "config_io hints",
        "models data",
        "weights",
        "training inference",
        "evaluation",
        "ablation demo_photos detection own_boxes study two_hues web",
        "demo",
        "cli",
        "__main__",
    )
)
"""Rooms from the bottom up: each imports only from rows before its own, and from itself."""

UPWARD = {
    ("jaxcolor.runtime.program", "jaxcolor.config"): "programs parse the flags of a config",
    ("jaxcolor.runtime.program", "jaxcolor.config_io"): "programs parse the flags of a config",
}
"""Imports against the order."""

LATE = {
    ("jaxcolor.models.ops.blend", "jaxcolor.models.ops.blend_rows"): "an implementation of the op that chooses it",
    ("jaxcolor.detection.detector", "jaxcolor.detection.mask_rcnn"): "a detector is imported when it is named",
    ("jaxcolor.detection.detector", "jaxcolor.detection.model_file"): "a detector is imported when it is named",
    ("jaxcolor.detection.model_file", "jaxcolor.detection.onnx"): "an optional package is imported when it is needed",
    ("jaxcolor.detection.model_file", "jaxcolor.detection.litert"): "an optional package is imported when it is needed",
    ("jaxcolor.detection.run", "jaxcolor.detection.beam"): "an optional package is imported when it is needed",
}
"""Imports inside of functions that would close a circle at the top of their file."""

LONGEST = 430
LONG = {
    "config.py": "every choice of a run is in one file",
    "inference/colorizer.py": "the one public class; two thirds of it are its documentation",
}
"""Files that may be longer, and why."""


class Import(NamedTuple):
    """One import of a module of the package by another."""

    importer: str
    imported: str
    late: bool
    """Inside of a function."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports_of(name: str) -> Iterator[Import]:
    """Imports of the package's modules, ``jaxcolor`` itself (its version, its public names) left out."""

    def visit(node: ast.AST, late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue  # it never runs
            inner = late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            found: list[str] = []
            if isinstance(child, ast.Import):
                found = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{name}: relative import in line {child.lineno}"
                full = [f"{child.module}.{alias.name}" for alias in child.names]
                found = [each if each in MODULES else str(child.module) for each in full]
            for imported in found:
                if imported.startswith("jaxcolor.") and imported != name:
                    assert imported in MODULES, f"{name}: {imported} does not exist"
                    yield Import(name, imported, late)
            yield from visit(child, inner)

    return visit(ast.parse(MODULES[name].read_text(encoding="utf-8")), False)


@functools.cache
def imports() -> list[Import]:
    return [found for name in MODULES for found in imports_of(name)]


def rank(module: str) -> int:
    room = module.split(".")[1]
    found = [number for number, rooms in enumerate(ORDER) if room in rooms]
    assert found, f"{module}: its room {room!r} has no place in ORDER (and in docs/architecture.md)"
    return found[0]


def circle(edges: Mapping[str, set[str]]) -> set[str]:
    """The modules that are left when those without imports are taken away again and again: none without a circle."""
    left = {name: set(needed) for name, needed in edges.items()}
    while free := {name for name, needed in left.items() if not needed & left.keys()}:
        left = {name: needed for name, needed in left.items() if name not in free}
    # What only imports a circle is not part of one.
    while free := {name for name in left if not any(name in needed for needed in left.values())}:
        left = {name: needed for name, needed in left.items() if name not in free}
    return set(left)


def test_imports_run_one_way() -> None:
    against = set()
    for found in imports():
        if found.importer == "jaxcolor" or found.importer.split(".")[1] == found.imported.split(".")[1]:
            continue
        if rank(found.imported) >= rank(found.importer):
            against.add((found.importer, found.imported))
    assert against == UPWARD.keys()


def test_there_is_no_circle_of_imports() -> None:
    edges: dict[str, set[str]] = {name: set() for name in MODULES}
    assert {(found.importer, found.imported) for found in imports() if found.late} >= LATE.keys()
    for found in imports():
        if found.importer != "jaxcolor" and (found.importer, found.imported) not in LATE:
            edges[found.importer].add(found.imported)
    assert circle(edges) == {}.keys()


def test_a_circle_would_be_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {"b", "c"}
    assert circle({"a": {"b", "d"}, "b": {"d"}, "d": set()}) == set()


def test_the_table_of_rooms_is_the_order() -> None:
    table = ARCHITECTURE.read_text(encoding="utf-8").split("| room |")[1].split("\n\n")[0]
    rooms = [set(re.findall(r"`(\w+)(?:/|\.py)`", line.split("|")[1])) for line in table.splitlines()[2:]]
    named = [row - {"train", "eval"} for row in reversed(rooms)]
    assert named == [set(row) for row in ORDER]
    assert {name.split(".")[1] for name in MODULES if "." in name} == set().union(*ORDER)


def test_files_are_short_and_no_file_is_called_utils() -> None:
    lines = {path.relative_to(PACKAGE).as_posix(): len(path.read_text().splitlines()) for path in MODULES.values()}
    assert {name for name, count in lines.items() if count > LONGEST} == LONG.keys()
    vague = {"utils", "util", "helpers", "common", "misc"}
    assert not vague & {part for name in MODULES for part in name.split(".")}


def test_the_readme_names_what_to_read() -> None:
    """The files that say what the model computes and how it is trained, and how long they are."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## Reading the code")[1].split("\n## ")[0]
    parts = re.findall(r"\*\*[^*]+\*\* \(about ([\d,]+) lines\):(.*?)(?=\n\n|\Z)", text, re.DOTALL)
    assert len(parts) == 2
    for count, named in parts:
        files = [PACKAGE / name for name in re.findall(r"`([\w/]+\.py)`", named)]
        assert files
        found = sum(len(path.read_text().splitlines()) for path in files)
        assert found == pytest.approx(int(count.replace(",", "")), rel=0.15)
        assert found <= 1000


def defined(module: str) -> set[str]:
    """Names at the top of a module."""
    names = set()
    for node in ast.parse(MODULES[module].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return names


def test_renames_lead_to_what_there_is() -> None:
    head, *lines = (ROOT / "docs" / "renames.tsv").read_text(encoding="utf-8").splitlines()
    assert head == "kind\told\tnew"
    rows = [tuple(line.split("\t")) for line in lines]
    assert rows == sorted(rows, key=lambda row: (row[1], row[0]))
    assert len({row[:2] for row in rows}) == len(rows)
    for kind, _, new in rows:
        if kind == "module":
            assert new == "-" or new in MODULES, new
        elif kind == "symbol" and new != "-":
            parts = new.partition("(")[0].split(".")
            module = max((".".join(parts[:i]) for i in range(2, len(parts))), key=lambda name: (name in MODULES, name))
            assert module in MODULES, new
            assert parts[module.count(".") + 1] in defined(module), new


@pytest.fixture
def my_code(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module that the examples in docs/architecture.md make together."""
    blocks = re.findall(r"```python\n(.*?)```", ARCHITECTURE.read_text(encoding="utf-8"), re.DOTALL)
    module = types.ModuleType("my_code")
    exec(compile("\n".join(blocks), "docs/architecture.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "my_code", module)
    return module


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(side=16, width=0.0625, fusion=FusionConfig(strategy="my_code:Equal", layers=("conv2_2",))),
        ModelConfig(side=16, width=0.0625, backbone="my_code:Small"),
        ModelConfig(side=16, width=0.0625, outputs=("my_code:Absolute",), fusion=FusionConfig(layers=("conv2_2",))),
    ],
    ids=["fusion strategy", "backbone", "output head"],
)
def test_models_from_the_page_predict(my_code: types.ModuleType, model: ModelConfig) -> None:
    batch = small.batch([small.example(0, [(0, 0, 8, 8), (4, 4, 12, 16)]), small.example(1)], capacity=3)
    nets = networks.build(model)

    def predict(variables: networks.Variables) -> networks.Prediction:
        return networks.predict(nets, variables, batch)

    found = jax.eval_shape(predict, networks.abstract(model))
    assert found.fused_ab.shape == (2, 16, 16, 2)
    assert found.fusion_weights.keys() == set(fused_taps(model))


def test_weights_from_the_page_sum_to_one(my_code: types.ModuleType) -> None:
    boxes = jnp.array([[0, 0, 2, 2], [1, 1, 2, 2], [0, 0, 4, 4]])
    crops = Instances(jnp.array([0, 0, -1]), boxes, resample.inside(boxes, 4, 4), np.zeros((0, 4, 4), bool))
    weights = my_code.Equal(ModelConfig(side=16)).weights(jnp.zeros((2, 4, 4, 1)), jnp.ones((3, 4, 4, 1)), crops)
    np.testing.assert_allclose(weights.full[0] + weights.instance[:2].sum(axis=0), 1)
    assert weights.full[0, 0, 0] == pytest.approx(1 / 2)
    assert weights.full[0, 1, 1] == pytest.approx(1 / 3)
    assert float(weights.instance[2].max()) == 0
    assert float(weights.full[1].min()) == 1


def test_the_loss_from_the_page(my_code: types.ModuleType) -> None:
    head = OUTPUTS.get("my_code:Absolute")
    np.testing.assert_allclose(head.loss(jnp.full((2, 4, 4, 2), 0.25), jnp.zeros((2, 4, 4, 2))), 0.5)


def test_photos_and_boxes_from_the_page(my_code: types.ModuleType, tmp_path: Path) -> None:
    config = DataConfig(source="my_code:Flat", threads=0)
    with eval_batches(make_source(config, 16), config, side=16, batch_size=5) as batches:
        first, second = batches
    assert second.batch.full_rgb[0, 0, 0].tolist() == [125, 99, 9]
    assert first.batch.level_boxes[0, 0].tolist() == [0, 0, 8, 16]
    (tmp_path / "boxes.csv").write_text("b,0,0,4,4,0.5\na,1,2,3,4,0.75\nb,4,4,8,8,0.25\n")
    store = open_store(tmp_path / "boxes.csv", "my_code:csv_store")
    assert store.read("a").boxes.tolist() == [[1, 2, 3, 4]]
    assert store.read("b").scores.tolist() == [0.5, 0.25]


def test_the_metric_from_the_page(my_code: types.ModuleType) -> None:
    metrics, named = chosen(EvalConfig(metrics="my_code:RED"))
    assert my_code.RED in metrics
    assert named == {"red_error"}
    black = np.zeros((1, 4, 4, 3), np.uint8)
    assert my_code.RED.function(black, black + 7, size=None).tolist() == [7]
