"""Distillation: what a student's loss is, that the teacher sees what the student sees, and whole runs."""

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxcolor.config import Config, ConfigError, ModelConfig, ObjectiveConfig
from jaxcolor.models import networks
from jaxcolor.models.networks import Picture, network_input
from jaxcolor.models.outputs.classes import WEIGHTS, Classes, ClassOutput
from jaxcolor.models.outputs.regression import Regression
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training import distillation, losses, stages, step, train
from jaxcolor.training.checkpoints import CheckpointError
from jaxcolor.training.optimizer import make_optimizer
from jaxcolor.weights import native
from tests.small import variables
from tests.training.runs import ONLY_FULL, numbers
from tests.training.steps import CONFIG, GRAY, PHOTOS, Result, assert_same_bits, examples, packed
from tests.training.test_picture_loss import class_logits, pictures
from tests.training.test_step_outputs import EVERYTHING

TEACHER = dataclasses.replace(EVERYTHING.model, width=0.125)
TAUGHT = dataclasses.replace(
    EVERYTHING,
    stages=("full",),
    objective=ObjectiveConfig(classes=0.5, teacher="some.safetensors", distill=1.0),
)


@functools.cache
def compiled(config: Config, teacher: ModelConfig, mapping: str, count: int) -> tuple[Devices, step.TrainState, Any]:
    devices, stage = Devices.all(mapping, jax.devices()[:count]), stages.STAGES["full"]
    optimizer = make_optimizer(config, config.full)
    before = step.make_state(variables(config.model)["full"], optimizer, config.full)
    kinds = (REPLICATED, REPLICATED, SPLIT)
    return devices, before, devices.map(step.make_step(config, stage, optimizer, teacher), kinds, kinds[:2])


def run(
    config: Config, teacher: ModelConfig = TEACHER, mapping: str = "shard_map", count: int = 8, darker: int = 1
) -> Result:
    """Two steps of stage full on 16 photos, six of them gray."""
    devices, before, function = compiled(config, teacher, mapping, count)
    given = examples(gray_photos=GRAY)
    for number in GRAY:
        full = given[number].full_rgb
        assert full is not None
        given[number] = given[number]._replace(full_rgb=full // darker)
    batch = devices.split(packed("full", given, count))
    frozen = devices.replicate(networks.frozen({step.TEACHER: variables(teacher)["full"]}, config.model))
    state, scalars = devices.replicate(before), []
    for _ in range(2):
        state, reported = function(state, frozen, batch)
        scalars.append(devices.fetch(reported))
    return Result(before, devices.fetch(state), scalars)


def test_classes_learn_the_whole_distribution() -> None:
    ours, theirs = class_logits(), class_logits()[::-1] * 0.5
    ones = jnp.ones(529)
    found = Classes.distillation(ClassOutput(ours, ones), ClassOutput(theirs, 3 * ones), (16, 16))
    p, q = (np.exp(np.asarray(x, np.float64)) for x in (theirs, ours))
    p, q = (x / x.sum(axis=-1, keepdims=True) for x in (p, q))
    np.testing.assert_allclose(found, (p * np.log(p / q)).sum(axis=-1).mean(axis=(1, 2)), rtol=1e-5)
    same = Classes.distillation(ClassOutput(theirs, ones), ClassOutput(theirs, ones), (16, 16))
    np.testing.assert_array_equal(same, 0)
    half = Classes.distillation(*(ClassOutput(x.astype(jnp.bfloat16), ones) for x in (ours, theirs)), (16, 16))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, found, rtol=0.02)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_truth_and_teacher_share_the_loss(share: float) -> None:
    luminance, ab, true_ab = pictures()
    taught_ab, logits, other = -0.5 * ab, class_logits(), class_logits()[::-1]
    picture = Picture(network_input(luminance), true_ab)
    ones = jnp.ones(529)
    config = ObjectiveConfig(classes=0.5, teacher="some", distill=share)
    found = losses.picture_loss(
        config,
        {"regression": ab, "classes": ClassOutput(logits, ones)},
        ab,
        picture,
        taught={"regression": taught_ab, "classes": ClassOutput(other, ones)},
    )
    truth = Regression.loss(ab, true_ab) + 0.5 * Classes.loss(ClassOutput(logits, ones), true_ab)
    teacher = Regression.loss(ab, taught_ab) + 0.5 * Classes.distillation(
        ClassOutput(logits, ones), ClassOutput(other, ones), (16, 16)
    )
    np.testing.assert_allclose(found, (1 - share) * truth + share * teacher, rtol=1e-5)
    with pytest.raises(ValueError, match="what the teacher predicts"):
        losses.picture_loss(config, {"regression": ab}, ab, picture)


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    """So the teacher sees what the student sees: the same augmentation, and hints in the same places."""
    model = dataclasses.replace(EVERYTHING.model, norm="group")
    result = run(dataclasses.replace(TAUGHT, model=model), teacher=model)
    assert abs(result.scalars[0].loss) < 1e-6
    assert result.scalars[0].grad_norm < 1e-4
    assert result.scalars[0].valid == PHOTOS - len(GRAY)


def test_a_wider_teacher() -> None:
    """What is in masked photos does not matter."""
    ours = run(TAUGHT)
    assert all(s.loss > 0.1 and s.valid == PHOTOS - len(GRAY) for s in ours.scalars)
    assert_same_bits(run(TAUGHT, darker=2), ours)


@pytest.mark.slow  # since JAX 0.10 pmap is a shard_map; test_step_outputs compares the mappings with every loss on
def test_both_mappings_give_the_same_bits() -> None:
    assert_same_bits(run(TAUGHT, mapping="pmap"), run(TAUGHT))


def test_eight_devices_do_what_one_does() -> None:
    eight, one = run(TAUGHT), run(TAUGHT, count=1)
    assert eight.scalars[0].loss == pytest.approx(one.scalars[0].loss, rel=1e-5)
    assert eight.scalars[0].grad_norm == pytest.approx(one.scalars[0].grad_norm, rel=1e-3)


def test_gray_photos_teach_too() -> None:
    config = dataclasses.replace(CONFIG, model=TAUGHT.model, objective=TAUGHT.objective, low_chroma=0.0)
    gray, darker = run(config), run(config, darker=2)
    assert gray.scalars[0].valid == PHOTOS
    assert gray.scalars[0].loss != darker.scalars[0].loss


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": "some"}, "distill: 0.0, which must be above 0 exactly where there is a teacher"),
        ({"distill": 0.5}, "distill: 0.5, which must be above 0 exactly where there is a teacher"),
        ({"teacher": "some", "distill": 1.5}, "distill: 1.5, which must be from 0 to 1"),
        ({"teacher": "a", "distill": 1.0, "prior": "b"}, "prior: 'b', which must be empty where there is a teacher"),
    ],
)
def test_objectives_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        ObjectiveConfig(**changes)
    assert said in str(error.value)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "wide.safetensors"
    native.save(path, TEACHER, {"full": variables(TEACHER)["full"]}, note="wide")
    return path


@pytest.fixture(scope="module")
def config(teacher: Path) -> Config:
    return dataclasses.replace(
        ONLY_FULL,
        model=TAUGHT.model,
        hints=TAUGHT.hints,
        objective=dataclasses.replace(TAUGHT.objective, teacher=str(teacher)),
    )


@pytest.fixture(scope="module")
def finished(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run") / "finished"
    train.train(config, workdir)
    return workdir


def test_the_weights_say_so_and_keep_the_teachers_weights_of_colors(finished: Path, teacher: Path) -> None:
    saved = native.load(finished / train.WEIGHTS_FILE)
    assert saved.note == f"tiny, after stage full; distilled from {teacher} (wide)"
    ours, theirs = (
        [v for p, v in traverse_util.flatten_dict(dict(w.variables["full"])).items() if p[-1] == WEIGHTS]
        for w in (saved, native.load(teacher))
    )
    np.testing.assert_array_equal(ours, theirs)
    assert np.ptp(ours[0]) > 0.5


def test_a_resumed_run_is_the_same_to_the_bit(config: Config, finished: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "copied"))
    for place in (copied / "full").iterdir():
        if place.name.isdigit() and int(place.name) > 4:
            shutil.rmtree(place)
    (copied / train.WEIGHTS_FILE).unlink()
    moved = Path(shutil.copy(config.objective.teacher, tmp_path / "wide.safetensors"))
    train.train(
        dataclasses.replace(config, objective=dataclasses.replace(config.objective, teacher=str(moved))), copied
    )
    assert numbers(copied) == numbers(finished)
    ours, theirs = (native.load(folder / train.WEIGHTS_FILE).variables for folder in (copied, finished))
    assert_same_bits(dict(ours), dict(theirs))


def test_another_teacher_is_another_run(config: Config, finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    native.save(other, TEACHER, {"full": variables(TEACHER, seed=1)["full"]})
    objective = dataclasses.replace(config.objective, teacher=str(other))
    with pytest.raises(CheckpointError, match="teacher"):
        train.train(dataclasses.replace(config, objective=objective), finished)


def test_teachers_that_cannot_teach(config: Config, tmp_path: Path) -> None:
    def with_teacher(model: ModelConfig, tree: str = "full") -> Config:
        path = tmp_path / "weights.safetensors"
        native.save(path, model, {tree: variables(model)[tree]})
        return dataclasses.replace(config, objective=dataclasses.replace(config.objective, teacher=str(path)))

    with pytest.raises(ConfigError, match="not trained with the output heads classes"):
        distillation.load(with_teacher(dataclasses.replace(TEACHER, outputs=("regression",))))
    with pytest.raises(ConfigError, match=r"set --config\.model\.hint_mask=siggraph17"):
        distillation.load(with_teacher(dataclasses.replace(TEACHER, hint_mask="siggraph17")))
    with pytest.raises(ConfigError, match="has no full-image network"):
        distillation.load(with_teacher(TEACHER, "instance"))
    with pytest.raises(ConfigError, match=r"is for stage full alone, and stages are full, instance"):
        distillation.check(dataclasses.replace(config, stages=("full", "instance")))
    assert distillation.load(ONLY_FULL) is None
