"""One step of each stage: on eight devices, on one, by both mappings, with pictures that do not count."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxcolor.config import OptimizerConfig, StageConfig
from jaxcolor.models import networks
from jaxcolor.training import stages, step
from jaxcolor.training.accumulate import sum_over_parts
from tests.small import FEW, variables
from tests.training.steps import (
    ALL,
    CONFIG,
    GRAY,
    PHOTOS,
    Result,
    assert_same_bits,
    changed,
    examples,
    packed,
    run,
)


@pytest.mark.slow  # test_step_outputs compares the mappings with every loss on
@pytest.mark.parametrize("stage", ["full", "fusion"])  # instance is full on other pictures
def test_both_mappings_give_the_same_bits(stage: str) -> None:
    given = examples(gray_photos=GRAY, gray_crops=(3, *GRAY))
    ours, theirs = (run(stage, given, mapping, steps=2) for mapping in ("shard_map", "pmap"))
    assert_same_bits(ours, theirs)
    assert ours.after.step == 2
    assert ours.scalars[0].loss != ours.scalars[1].loss


VALID = {"full": PHOTOS - len(GRAY), "instance": PHOTOS - len(GRAY) - 1, "fusion": PHOTOS - len(GRAY) - 1}


@ALL
@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
def test_eight_devices_do_what_one_does(stage: str, masked: bool) -> None:
    """Also where devices hold different numbers of valid pictures: synchronised BatchNorm, loss and gradients."""
    given = examples(gray_photos=GRAY, gray_crops=(3, *GRAY)) if masked else examples()
    eight, one = run(stage, given), run(stage, given, count=1)
    assert eight.scalars[0].valid == one.scalars[0].valid == (VALID[stage] if masked else PHOTOS)
    assert eight.scalars[0].loss == pytest.approx(one.scalars[0].loss, rel=1e-5)
    # Float32 through ten BatchNorms of a few pixels leaves two digits of a gradient. Means of means, or gradients
    # that are counted once a device, would be off by much more.
    assert eight.scalars[0].grad_norm == pytest.approx(one.scalars[0].grad_norm, rel=0.02)
    ours, theirs = eight.gradients(), one.gradients()
    differences = np.array([np.linalg.norm(ours[name] - theirs[name]) for name in theirs])
    norms = np.array([np.linalg.norm(gradient) for gradient in theirs.values()])
    assert np.linalg.norm(differences) < 0.02 * np.linalg.norm(norms)
    assert np.median(differences / np.maximum(norms, 1e-6)) < 0.01
    for ours, expected in zip(
        jax.tree.leaves(eight.after.variables["batch_stats"]),
        jax.tree.leaves(one.after.variables["batch_stats"]),
        strict=True,
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


@ALL
def test_masked_pictures_change_nothing(stage: str) -> None:
    """Their lightness matters neither to the loss nor to the statistics nor to any gradient."""
    given = examples(gray_photos=GRAY, gray_crops=GRAY)
    darker = [
        e._replace(full_rgb=e.full_rgb // 2, crop_rgb=e.crop_rgb // 2) if number in GRAY else e
        for number, e in enumerate(given)
    ]
    ours, theirs = run(stage, given), run(stage, darker)
    assert ours.scalars[0].valid == PHOTOS - len(GRAY)
    assert_same_bits(ours, theirs)


@ALL
def test_a_batch_without_valid_pictures_changes_only_the_count_of_steps(stage: str) -> None:
    result = run(stage, examples(gray_photos=range(PHOTOS), gray_crops=range(PHOTOS)))
    assert (result.scalars[0].loss, result.scalars[0].valid) == (0, 0)
    assert result.after.step == 1
    assert_same_bits(result.after.variables, result.before.variables)
    assert_same_bits(result.after.opt_state, result.before.opt_state)


@ALL
def test_only_what_is_trained_changes(stage: str) -> None:
    result = run(stage, examples(), steps=2)
    trained, frozen = stages.partition(
        result.before.variables["params"], stages.stage_config(CONFIG, stages.STAGES[stage]).trained
    )
    after = traverse_util.flatten_dict(result.after.variables["params"])
    assert set(after) == {*trained, *frozen}
    for path, value in frozen.items():
        np.testing.assert_array_equal(after[path], value)
    changed = {path for path, value in trained.items() if not np.array_equal(after[path], value)}
    still = {path[-3:-1] for path in trained.keys() - changed}
    if stage == "fusion":
        assert {path[0] for path in frozen} == {"trunk"}
        assert len(changed) > 0.6 * len(trained)  # a head can be dead from the start: all below its last ReLU
        assert_same_bits(result.after.variables["batch_stats"], result.before.variables["batch_stats"])
    else:
        # The class head takes no part in regression.
        assert {path[0] for path in trained.keys() - changed} <= {"classes"}, still
        for ours, theirs in zip(
            jax.tree.leaves(result.after.variables["batch_stats"]),
            jax.tree.leaves(result.before.variables["batch_stats"]),
            strict=True,
        ):
            assert not np.array_equal(ours, theirs)
    # Adam keeps moments of what is trained, and of nothing else.
    assert set(result.after.opt_state.rule[0].mu) == {"/".join(path) for path in trained}


@ALL
def test_the_loss_falls(stage: str) -> None:
    losses = [float(s.loss) for s in run(stage, examples(), steps=12).scalars]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.95 * np.mean(losses[:3]), losses


def test_without_synchronisation_statistics_are_the_mean_of_the_devices() -> None:
    """Looked at where they can be computed by hand: at the first norm."""
    given, params = examples(), variables(FEW)["full"]["params"]
    result = run("full", given, config=dataclasses.replace(CONFIG, sync_batch_norm=False))
    x = networks.picture(packed("full", given, 1).full_rgb, FEW).inputs
    for layer in ("conv1_1", "conv1_2"):
        x = jax.nn.relu(nn.Conv(params[layer]["bias"].size, (3, 3), padding=1).apply({"params": params[layer]}, x))
    devices = np.asarray(x, np.float64).reshape(8, -1, x.shape[-1])
    before, after = (state.variables["batch_stats"]["norm1"] for state in (result.before, result.after))
    synced = run("full", given).after.variables["batch_stats"]["norm1"]
    mean_of_variances = devices.var(axis=1, ddof=1).mean(axis=0)
    np.testing.assert_allclose((after["var"] - 0.9 * before["var"]) / 0.1, mean_of_variances, atol=5e-6)
    global_variance = devices.reshape(-1, x.shape[-1]).var(axis=0, ddof=1)
    np.testing.assert_allclose((synced["var"] - 0.9 * before["var"]) / 0.1, global_variance, atol=5e-6)
    assert np.abs(mean_of_variances - global_variance).max() > 5e-5
    for stats in (after, synced):
        expected = 0.9 * before["mean"] + 0.1 * devices.mean(axis=(0, 1))
        np.testing.assert_allclose(stats["mean"], expected, rtol=1e-4, atol=1e-6)


def test_networks_without_statistics_train_too() -> None:
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(FEW, norm="none"))
    result = run("instance", examples(), config=config, count=1)
    assert np.isfinite(result.scalars[0].loss)
    assert result.after.variables["batch_stats"] == {}


def assert_one_step_agrees(ours: Result, theirs: Result, rtol: float) -> None:
    assert ours.scalars[0].valid == theirs.scalars[0].valid
    for name in ("loss", "grad_norm"):
        assert getattr(ours.scalars[0], name) == pytest.approx(getattr(theirs.scalars[0], name), rel=rtol)
    gradients, expected = ours.gradients(), theirs.gradients()
    for name, gradient in expected.items():
        np.testing.assert_allclose(gradients[name], gradient, atol=rtol * float(theirs.scalars[0].grad_norm))


class TestAccumulation:
    @pytest.mark.parametrize(
        ("stage", "norm", "count", "accumulate"), [("fusion", "batch", 8, 2), ("instance", "none", 1, 4)]
    )
    def test_parts_do_what_the_whole_does(self, stage: str, norm: str, count: int, accumulate: int) -> None:
        """Where pictures do not meet in a norm; parts hold different numbers of valid pictures, or none."""
        config = dataclasses.replace(CONFIG, model=dataclasses.replace(FEW, norm=norm))
        given = examples(gray_photos=GRAY, gray_crops=(3, *GRAY))
        parts = run(stage, given, count=count, config=changed(config, stage, accumulate=accumulate))
        whole = run(stage, given, count=count, config=config)
        assert whole.scalars[0].valid == VALID[stage]
        assert_one_step_agrees(parts, whole, rtol=1e-5)
        if stage == "fusion":
            assert_same_bits(parts.after.variables["batch_stats"], whole.before.variables["batch_stats"])

    def test_batch_norm_in_training_takes_a_part_as_a_device_of_its_own(self) -> None:
        """It normalises each by itself; the running statistics move once, by the mean of what all parts say."""
        given, alone = examples(gray_photos=GRAY), dataclasses.replace(CONFIG, sync_batch_norm=False)
        parts = run("full", given, count=4, config=changed(alone, "full", accumulate=2))
        devices = run("full", given, count=8, config=alone)
        assert_one_step_agrees(parts, devices, rtol=1e-4)
        for ours, theirs in zip(
            jax.tree.leaves(parts.after.variables["batch_stats"]),
            jax.tree.leaves(devices.after.variables["batch_stats"]),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)

    def test_parts_that_are_not_equal_are_refused(self) -> None:
        with pytest.raises(ValueError, match="3 pictures cannot be cut into 2 equal parts"):
            sum_over_parts(lambda part: part, {"crop": jnp.zeros((3, 2))}, 2)


AVERAGED = dataclasses.replace(
    CONFIG,
    model=dataclasses.replace(FEW, norm="none"),
    optimizer=OptimizerConfig(name="adamw", weight_decay=0.1, ema_decay=0.9),
    full=StageConfig(steps=4, learning_rate=1e-2, decay_start=0.25),
)


def test_a_step_without_valid_pictures_takes_its_learning_rate_with_it() -> None:
    """What is reported is what is applied, also after such a step: the optimizer counts one update less than steps."""
    dead = examples(gray_photos=range(PHOTOS))
    two, three = (run("full", examples(), then=then, config=AVERAGED) for then in ([dead], [dead, examples()]))
    assert [float(s.valid) for s in three.scalars] == [PHOTOS, 0, PHOTOS]
    rates = [float(s.learning_rate) for s in three.scalars]
    assert rates == pytest.approx([0.01, 0, 0.01 * 2 / 3])
    before, after = (traverse_util.flatten_dict(r.after.variables["params"], sep="/") for r in (two, three))
    adam, settings = three.after.opt_state.rule[0], AVERAGED.optimizer
    assert adam.count == 2
    for name in adam.mu:
        mean, square = (m[name] / (1 - b**2) for m, b in ((adam.mu, settings.b1), (adam.nu, settings.b2)))
        direction = mean / (np.sqrt(square) + settings.eps)
        if name.endswith("kernel"):
            direction = direction + settings.weight_decay * before[name]
        np.testing.assert_allclose(after[name], before[name] - rates[2] * direction, rtol=1e-5, atol=1e-6)


def test_averaged_weights_are_those_of_the_updates() -> None:
    """And are not moved by a step without valid pictures."""
    dead = examples(gray_photos=range(PHOTOS))
    runs = [run("full", examples(), then=then, config=AVERAGED) for then in ([], [dead], [dead, examples()])]
    first, _, last = (r.after.variables["params"] for r in runs)
    averages = [step.eval_variables(r.after)["params"] for r in runs]
    assert_same_bits(averages[0], averages[1])
    expected = jax.tree.map(lambda a, b: (0.9 * a + b) / 1.9, first, last)
    start = runs[0].before.variables["params"]
    for ours, theirs, raw, first in zip(*map(jax.tree.leaves, (averages[2], expected, last, start)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        # It is not the raw one, but for arrays that no gradient reaches.
        assert np.array_equal(ours, raw) == np.array_equal(raw, first)
