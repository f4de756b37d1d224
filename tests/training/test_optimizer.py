"""The optimizer by itself, on a few small arrays: schedules, Adam, weight decay, clipping, averaged weights."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest

from jaxcolor.config import Config, ConfigError, OptimizerConfig, StageConfig
from jaxcolor.config_io import from_dict
from jaxcolor.runtime.parallel import REPLICATED, SPLIT, Devices
from jaxcolor.training.optimizer import OptState, learning_rate, make_optimizer
from jaxcolor.training.step import TrainState, eval_variables, make_state

STAGE = StageConfig(steps=10, learning_rate=1.0)
ONE = Devices.all("shard_map", jax.devices()[:1])
NAMES = {"conv/kernel": (2, 3), "conv/bias": (3,), "norm/scale": (5,), "norm/bias": (5,)}


def arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in NAMES.items()}


class Run(NamedTuple):
    """On the host, from before the first update on; and the norm of each gradient."""

    weights: list[dict[str, np.ndarray]]
    states: list[OptState]
    norms: list[float]


def steps(
    settings: OptimizerConfig,
    count: int,
    rate: float = 0.1,
    devices: Devices = ONE,
) -> Run:
    """Updates with the gradients of ``arrays``, a share of which comes from each device."""
    optimizer = make_optimizer(Config(optimizer=settings), STAGE)
    stats = {"norm": {"mean": np.ones(2, np.float32)}}
    result = Run([arrays(0)], [jax.device_get(optimizer.init(arrays(0), stats))], [])

    def update(state: TrainState, gradients: Any) -> tuple[TrainState, jax.Array]:
        own = jax.tree.map(lambda g: g[0], gradients)
        updated = optimizer.update(own, state.opt_state, state.variables["params"], stats, rate)
        return TrainState(state.step, {"params": updated.trained}, updated.state), updated.grad_norm

    begin = TrainState(np.int32(0), {"params": result.weights[-1]}, result.states[-1])
    mapped = devices.map(update, in_specs=(REPLICATED, SPLIT), out_specs=(REPLICATED, REPLICATED))
    state = devices.replicate(begin)
    for number in range(1, count + 1):
        shares = np.random.default_rng(number).dirichlet(np.ones(8)).astype(np.float32).reshape(devices.count, -1)
        each = {k: np.stack([g * share for share in shares.sum(axis=1)]) for k, g in arrays(number).items()}
        state, norm = mapped(state, devices.split(each))
        host = devices.fetch(state)
        result = Run(
            [*result.weights, host.variables["params"]],
            [*result.states, host.opt_state],
            [*result.norms, float(devices.fetch(norm))],
        )
    return result


def rates(**settings: Any) -> list[float]:
    schedule = learning_rate(dataclasses.replace(STAGE, **settings))
    return [float(jax.jit(schedule)(step)) for step in range(STAGE.steps + 1)]


class TestLearningRate:
    def test_constant_is_exact(self) -> None:
        for schedule in ("constant", "linear"):
            stage = dataclasses.replace(STAGE, learning_rate=3e-4, schedule=schedule)
            assert {learning_rate(stage)(i) for i in range(20)} == {3e-4}

    def test_linear_decay(self) -> None:
        assert rates(decay_start=0.6) == pytest.approx([1] * 7 + [0.75, 0.5, 0.25, 0])

    def test_cosine(self) -> None:
        assert rates(schedule="cosine") == pytest.approx(
            [(1 + np.cos(np.pi * i / 10)) / 2 for i in range(11)], abs=1e-6
        )

    @pytest.mark.parametrize(
        ("settings", "after"),
        [
            ({"schedule": "constant", "decay_start": 0.5}, [1] * 7),
            ({"schedule": "linear", "decay_start": 0.6}, [1, 1, 1, 0.75, 0.5, 0.25, 0]),
            ({"schedule": "cosine"}, [(1 + np.cos(np.pi * i / 6)) / 2 for i in range(7)]),
        ],
        ids=["constant", "linear", "cosine"],
    )
    def test_every_step_of_a_warmup_updates_something(self, settings: dict[str, Any], after: list[float]) -> None:
        assert rates(warmup_steps=4, **settings) == pytest.approx([0.25, 0.5, 0.75, 1, *after], abs=1e-6)

    def test_a_warmup_of_one_step_is_none(self) -> None:
        assert rates(warmup_steps=1, decay_start=0.6) == rates(decay_start=0.6)

    def test_a_warmup_up_to_the_decay(self) -> None:
        assert rates(warmup_steps=6, decay_start=0.6) == pytest.approx(
            [*(i / 6 for i in range(1, 7)), 1, 0.75, 0.5, 0.25, 0]
        )


def test_adam_is_optaxs() -> None:
    weights, _, norms = steps(OptimizerConfig(b1=0.8, b2=0.99, eps=1e-3), 3)
    adam = optax.adam(0.1, b1=0.8, b2=0.99, eps=1e-3)
    expected, state = arrays(0), adam.init(arrays(0))
    for number in range(3):
        updates, state = adam.update(arrays(number + 1), state)
        expected = optax.apply_updates(expected, updates)
    for name in NAMES:
        np.testing.assert_allclose(weights[-1][name], expected[name], rtol=1e-6)
    assert norms == pytest.approx([np.sqrt(sum((g**2).sum() for g in arrays(i).values())) for i in (1, 2, 3)], rel=1e-6)


def test_weight_decay_is_decoupled_and_of_kernels_alone() -> None:
    decayed, plain = (steps(OptimizerConfig(name="adamw", weight_decay=w), 1)[0] for w in (0.5, 0.0))
    for name in NAMES:
        share = 0.1 * 0.5 if name == "conv/kernel" else 0.0
        np.testing.assert_allclose(decayed[1][name], plain[1][name] - share * decayed[0][name], rtol=1e-5, atol=1e-7)


def test_layers_learn_at_rates_of_their_own() -> None:
    """The first pattern that is found counts; weight decay is slowed down too."""
    plain = OptimizerConfig(name="adamw", weight_decay=0.1)
    ours = steps(dataclasses.replace(plain, layer_rates="norm/b=0,conv/=0.5,kernel=7"), 1)
    theirs = steps(plain, 1)
    for name, factor in (("conv/kernel", 0.5), ("conv/bias", 0.5), ("norm/scale", 1.0), ("norm/bias", 0.0)):
        expected = theirs.weights[0][name] + factor * (theirs.weights[1][name] - theirs.weights[0][name])
        np.testing.assert_allclose(ours.weights[1][name], expected, rtol=1e-6)


def test_clipping_scales_the_whole_gradient_down_and_never_up() -> None:
    norm = float(optax.tree.norm(arrays(1)))
    for limit in (norm / 4, norm * 4):
        _, states, norms = steps(OptimizerConfig(clip_norm=limit), 1)
        assert norms == pytest.approx([norm])  # as it came
        for name, gradient in arrays(1).items():
            expected = 0.1 * gradient * min(1.0, limit / norm)
            np.testing.assert_allclose(states[1].rule[0].mu[name], expected, rtol=1e-5)


class TestAverage:
    def test_it_is_optaxs_with_bias_correction(self) -> None:
        weights, states, _ = steps(OptimizerConfig(ema_decay=0.9), 4)
        ema = optax.ema(0.9)
        expected = state = ema.init(weights[0])
        for number in range(1, 5):
            expected, state = ema.update(weights[number], state)
        for name in NAMES:
            np.testing.assert_allclose(states[-1].average["params"][name], expected[name], rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(states[0].average["params"][name], weights[0][name])
        assert np.abs(weights[-1]["conv/bias"] - expected["conv/bias"]).max() > 0.01

    def test_slow_averages_settle_on_the_weights(self) -> None:
        """Where weights do not change the average does not either, however close to 1 the decay: no bias of float32."""
        optimizer = make_optimizer(Config(optimizer=OptimizerConfig(ema_decay=0.9999)), STAGE)
        weights, state = arrays(0), optimizer.init(arrays(0), {})
        gradients = jax.tree.map(np.zeros_like, weights)

        def update(state: OptState) -> tuple[OptState]:
            return (optimizer.update(gradients, state, weights, {}, 0.0).state,)

        mapped = ONE.map(update, in_specs=(REPLICATED,), out_specs=(REPLICATED,))
        for _ in range(3000):
            (state,) = mapped(state)
        for name in NAMES:
            np.testing.assert_allclose(state.average["params"][name], weights[name], rtol=1e-6)


EVERYTHING = OptimizerConfig(name="adamw", weight_decay=0.5, clip_norm=1.0, ema_decay=0.9)


def assert_close(ours: Run, theirs: Run, rtol: float) -> None:
    for one, other in ((ours.weights, theirs.weights), (ours.states, theirs.states), (ours.norms, theirs.norms)):
        assert jax.tree.structure(one) == jax.tree.structure(other)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            assert np.shape(a) == np.shape(b)
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("mapping", ["shard_map", "pmap"])
def test_shares_of_eight_devices_are_one_gradient(mapping: str) -> None:
    eight, one = steps(EVERYTHING, 3, devices=Devices.all(mapping)), steps(EVERYTHING, 3)
    assert min(one.norms) > 1.5  # clipping does something
    assert_close(eight, one, 1e-5)


def state_of(ema_decay: float) -> TrainState:
    optimizer = make_optimizer(Config(optimizer=OptimizerConfig(ema_decay=ema_decay)), STAGE)
    kernel, heads = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)
    tree = {
        "params": {"trunk": {"conv1_1": {"kernel": kernel}}, "fuse_conv1_2": {"bias": heads}},
        "batch_stats": {"norm1": {"mean": np.zeros(3, np.float32)}},
    }
    return make_state(tree, optimizer, dataclasses.replace(STAGE, trained="fusion"))


def test_eval_variables_are_the_average() -> None:
    plain = state_of(0.0)
    assert eval_variables(plain) == plain.variables
    averaged = state_of(0.9)
    assert set(averaged.opt_state.average["params"]) == {"fuse_conv1_2/bias"}  # frozen parameters need no average
    average = {"params": {"fuse_conv1_2/bias": np.full(2, 7.0)}, "batch_stats": {"norm1": {"mean": np.full(3, 5.0)}}}
    found = eval_variables(averaged.replace(opt_state=averaged.opt_state._replace(average=average)))
    assert jax.tree.structure(found) == jax.tree.structure(averaged.variables)
    np.testing.assert_array_equal(found["params"]["fuse_conv1_2"]["bias"], [7, 7])
    np.testing.assert_array_equal(found["params"]["trunk"]["conv1_1"]["kernel"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["batch_stats"]["norm1"]["mean"], [5, 5, 5])


def test_the_first_state_lies_on_the_host() -> None:
    assert not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state_of(0.9)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": {"b1": 1.0}}, "config.optimizer.b1: 1.0, which must be at least 0 and below 1"),
        ({"optimizer": {"ema_decay": 1.0}}, "config.optimizer.ema_decay: 1.0, which must be at least 0 and below 1"),
        ({"optimizer": {"eps": 0.0}}, "config.optimizer.eps: 0.0, which must be above 0"),
        ({"optimizer": {"clip_norm": -1.0}}, "config.optimizer.clip_norm: -1.0, which must be at least 0"),
        ({"optimizer": {"weight_decay": 0.1}}, "config.optimizer.weight_decay: 0.1, which must be 0 for adam; adamw"),
        (
            {"full": {"steps": 9, "decay_start": 0.5, "warmup_steps": 5}},
            "full.warmup_steps: 5, which must be from 0 to 4",
        ),
        (
            {"full": {"steps": 9, "schedule": "cosine", "warmup_steps": 10}},
            "warmup_steps: 10, which must be from 0 to 9",
        ),
        ({"full": {"schedule": "cos"}}, "config.full.schedule: 'cos' is none of linear, cosine, constant"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_dict(Config, values)
    assert message in str(error.value)
