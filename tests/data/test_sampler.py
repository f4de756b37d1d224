import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcolor.data.sampler import BalancedSampler, ProcessShare, ShuffledSampler, balance

counts_and_groups = st.integers(1, 8).flatmap(
    lambda groups: st.tuples(
        st.integers(1, 6).flatmap(
            lambda size: st.lists(st.integers(0, 9), min_size=groups * size, max_size=groups * size)
        ),
        st.just(groups),
    )
)


@given(counts_and_groups, st.integers(0, 9))
def test_deal_gives_every_photo_once_and_even_sums(drawn, seed):
    counts, groups = np.array(drawn[0]), drawn[1]
    rows = balance(counts, groups, np.random.default_rng(seed))
    assert sorted(rows.tolist()) == list(range(len(counts)))
    sums = counts[rows].reshape(groups, -1).sum(axis=1)
    in_order = counts.reshape(groups, -1).sum(axis=1)
    # No group can be worse than the mean plus one photo of the largest count, whatever order they came in.
    assert sums.max() <= max(counts.mean() * len(counts) / groups + counts.max(), in_order.max())


def test_deal_levels_what_a_random_order_does_not():
    rng = np.random.default_rng(0)
    counts = rng.choice([1, 2, 3, 8], size=256, p=[0.6, 0.2, 0.1, 0.1])
    sums = counts[balance(counts, 32, rng)].reshape(32, 8).sum(axis=1)
    random = counts.reshape(32, 8).sum(axis=1)
    assert np.ptp(sums) <= 3
    assert np.ptp(random) > 25


def test_balance_keeps_no_order():
    # Neither the photos with most crops first, nor the fullest device.
    counts = np.arange(64)
    rows = balance(counts, 8, np.random.default_rng(0))
    assert rows.tolist() != balance(counts, 8, np.random.default_rng(1)).tolist()
    assert abs(rows.reshape(8, 8).mean(axis=0) - 31.5).max() < 20


class TestShuffled:
    def test_every_pass_has_all_photos_in_an_order_of_its_own(self):
        order = ShuffledSampler(17, 5)
        passes = [[order[p] for p in range(17 * n, 17 * n + 17)] for n in range(4)]
        assert all(sorted(each) == list(range(17)) for each in passes)
        assert len({tuple(each) for each in passes}) == 4
        assert [ShuffledSampler(17, 6)[p] for p in range(17)] != passes[0]

    def test_any_access_gives_the_same(self):
        wanted = [ShuffledSampler(17, 5)[p] for p in range(170)]
        order = pickle.loads(pickle.dumps(ShuffledSampler(17, 5)))
        for position in np.random.default_rng(0).permutation(170).tolist():
            assert order[position] == wanted[position]
        assert len(order._epochs) <= 3


class TestBalanced:
    counts = np.random.default_rng(3).integers(1, 9, size=50).tolist()

    def order(self, seed=5):
        return BalancedSampler(ShuffledSampler(50, seed), self.counts.__getitem__, window=24, group_size=4, seed=seed)

    def test_windows_hold_the_photos_of_the_order_they_deal(self):
        plain, dealt = ShuffledSampler(50, 5), self.order()
        for start in range(0, 120, 24):
            places = range(start, start + 24)
            assert sorted(dealt[p] for p in places) == sorted(plain[p] for p in places)
        assert [dealt[p] for p in range(24)] != [plain[p] for p in range(24)]

    def test_any_access_gives_the_same(self):
        wanted = [self.order()[p] for p in range(240)]
        order = self.order()
        for position in np.random.default_rng(0).permutation(240).tolist():
            assert order[position] == wanted[position]
        again = pickle.loads(pickle.dumps(order))
        assert [again[p] for p in range(240)] == wanted
        assert [self.order(6)[p] for p in range(48)] != wanted[:48]

    def test_remembers_a_few_windows_only(self):
        order = self.order()
        for position in range(0, 2400, 24):
            order[position]
        assert len(order._windows) <= 3


@pytest.mark.parametrize("process_count", [1, 2, 4])
def test_shares_make_up_the_steps(process_count):
    shares = [ProcessShare(8, i, process_count) for i in range(process_count)]
    local = 8 // process_count
    for step in range(3):
        places = [s.position(step * local + i) for s in shares for i in range(local)]
        assert places == list(range(step * 8, step * 8 + 8))
