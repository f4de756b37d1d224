"""What the stages train, what they start from, and in which order they may be asked for."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util

from jaxcolor.config import Config, ConfigError, StageConfig
from jaxcolor.models import networks
from jaxcolor.training.stages import STAGES, merge, partition, stage_config, stages_of, starting_tree
from tests.small import MODEL, variables


def names(flat: Any) -> set[str]:
    """The two outermost names of every path."""
    return {"/".join(path[:2]) for path in flat}


class TestPartition:
    def test_all(self) -> None:
        for tree in networks.TREES:
            params = variables()[tree]["params"]
            trained, frozen = partition(params, "all")
            assert set(trained) == set(traverse_util.flatten_dict(params))
            assert not frozen

    def test_fusion_is_the_weight_heads_alone(self) -> None:
        trained, frozen = partition(variables()["fusion"]["params"], "fusion")
        assert len(names(trained)) == 26
        assert {name.split("/")[1] for name in names(trained)} == {"full_head", "instance_head"}
        assert {path[0] for path in frozen} == {"trunk"}

    def test_fusion_and_output_adds_the_last_block(self) -> None:
        params = variables()["fusion"]["params"]
        heads, _ = partition(params, "fusion")
        trained, frozen = partition(params, "fusion_and_output")
        assert names(trained) - names(heads) == {"trunk/conv10_2", "trunk/output"}
        # model10up and its shortcut stay as they are.
        assert {"trunk/conv10_up", "trunk/short1_10"} <= names(frozen)

    def test_parameter_counts_of_the_authors(self) -> None:
        """At full width: 13 heads; model10 and model_out have 147,584 and 258 more."""
        shapes = networks.abstract(Config().model)["fusion"]["params"]
        params = jax.tree.map(lambda like: np.broadcast_to(np.float32(0), like.shape), shapes)
        count = {t: sum(p.size for p in partition(params, t)[0].values()) for t in ("fusion", "fusion_and_output")}
        assert count == {"fusion": 1_078_266, "fusion_and_output": 1_078_266 + 147_584 + 258}

    @pytest.mark.parametrize("trained", ["all", "fusion", "fusion_and_output"])
    def test_merge_is_the_inverse(self, trained: str) -> None:
        params = variables()["fusion"]["params"]
        back = merge(*partition(params, trained))
        assert jax.tree.structure(back) == jax.tree.structure(params)
        for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True):
            assert ours is theirs


class TestStart:
    FRESH, FULL = variables(), variables(seed=1)["full"]

    def flat(self, tree: Any) -> dict[tuple[str, ...], np.ndarray]:
        return traverse_util.flatten_dict(tree)

    def test_full_is_fresh(self) -> None:
        assert starting_tree(STAGES["full"], {}, self.FRESH) == self.FRESH["full"]

    def test_instance_is_a_copy_of_full_without_its_class_head(self) -> None:
        tree = self.flat(starting_tree(STAGES["instance"], {"full": self.FULL}, self.FRESH))
        assert tree.keys() == self.flat(self.FRESH["instance"]).keys()
        full = self.flat(self.FULL)
        assert all(value is full[path] for path, value in tree.items())
        assert {path[1] for path in full.keys() - tree.keys()} == {"classes"}

    def test_fusion_has_fulls_trunk_and_fresh_heads(self) -> None:
        trees = {"full": self.FULL, "instance": variables(seed=2)["instance"]}
        tree = self.flat(starting_tree(STAGES["fusion"], trees, self.FRESH))
        full, fresh = self.flat(self.FULL), self.flat(self.FRESH["fusion"])
        assert tree.keys() == fresh.keys()
        for (collection, module, *rest), value in tree.items():
            source = full if module == "trunk" else fresh
            assert value is source[(collection, *([] if module == "trunk" else [module]), *rest)]

    def test_a_tree_of_its_own_is_continued(self) -> None:
        own = variables(seed=3)
        for name, stage in STAGES.items():
            assert starting_tree(stage, own, self.FRESH) == own[name]

    def test_nothing_given_is_changed(self) -> None:
        before = {t: self.flat(tree) for t, tree in self.FRESH.items()}
        starting_tree(STAGES["fusion"], {"full": self.FULL}, self.FRESH)
        after = {t: self.flat(tree) for t, tree in self.FRESH.items()}
        assert all(after[t][path] is value for t in before for path, value in before[t].items())


class TestOrder:
    @pytest.mark.parametrize(
        "stages", [("full", "instance", "fusion"), ("full",), ("instance", "fusion"), ("full", "fusion")]
    )
    def test_in_order(self, stages: tuple[str, ...]) -> None:
        assert [stage.name for stage in stages_of(Config(stages=stages))] == list(stages)

    @pytest.mark.parametrize(
        ("stages", "message"),
        [
            (("fusion", "full"), "out of order; the order is full, instance, fusion"),
            (("full", "full"), "out of order"),
            (("full", "fuse"), "['fuse']; give some of full, instance, fusion"),
            ((), "empty; give some of"),
        ],
    )
    def test_what_is_refused(self, stages: tuple[str, ...], message: str) -> None:
        with pytest.raises(ConfigError) as error:
            stages_of(Config(stages=stages))
        assert message in str(error.value)

    def test_each_has_its_own_settings(self) -> None:
        config = Config(
            model=MODEL, full=StageConfig(steps=1), instance=StageConfig(steps=2), fusion=StageConfig(steps=3)
        )
        assert [stage_config(config, stage).steps for stage in STAGES.values()] == [1, 2, 3]
