import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcolor.study.plan import Draws, Settings, StudyError, check_numbers, draw, fitted, seed_of
from tests.study.people import deck


@st.composite
def numbers(drawn):
    """Of a deck; not the deck itself, for beartype's checks of it draw random numbers, which strategies may not."""
    photos, systems = drawn(st.integers(1, 12)), drawn(st.integers(2, 4))
    most = photos * systems * (systems - 1) // 2
    count = drawn(st.integers(1, most))
    repeats, catches = drawn(st.integers(0, (count + 1) // 2)), drawn(st.integers(0, count))
    return photos, systems, count, repeats, catches


names = st.text("abcdefgh0123456789", min_size=1, max_size=8)


def is_catch(trial):
    return {trial.left[0], trial.right[0]} == {"t", "g"}


def main(trials):
    return [t for t in trials if t.repeat_of is None and not is_catch(t)]


class TestDraw:
    @settings(deadline=None, max_examples=150)
    @given(numbers(), names)
    def test_is_balanced(self, numbers, name):
        made = deck(*numbers)
        check_numbers(made)
        trials = draw(made, name)
        compared = main(trials)
        assert len(compared) == made.pairs_per_person
        assert len(trials) == made.pairs_per_person + made.repeats + made.catches
        photos = Counter(t.photo for t in compared)
        per_photo = [photos[p.name] for p in made.photos]
        assert max(per_photo) - min(per_photo) <= 1
        # A pair of systems, from codes such as s0k5.
        pairs = Counter(frozenset((t.left[:2], t.right[:2])) for t in compared)
        per_pair = [pairs[frozenset(c[:2] for c in pair)] for pair in made.photos[0].pairs]
        assert max(per_pair) - min(per_pair) <= 1
        assert len({(t.photo, frozenset((t.left, t.right))) for t in compared}) == len(compared)
        assert all(t.left.endswith(t.photo) and t.right.endswith(t.photo) for t in trials)

    @settings(deadline=None, max_examples=150)
    @given(numbers(), names)
    def test_repeats_swap_sides_and_come_late(self, numbers, name):
        made = deck(*numbers)
        check_numbers(made)
        trials = draw(made, name)
        repeats = [(i, t) for i, t in enumerate(trials) if t.repeat_of is not None]
        assert len(repeats) == made.repeats
        assert len({t.repeat_of for _, t in repeats}) == made.repeats
        for i, trial in repeats:
            first = trials[trial.repeat_of - 1]
            assert (first.photo, first.left, first.right) == (trial.photo, trial.right, trial.left)
            assert first in main(trials)
            between = main(trials[trial.repeat_of - 1 : i])
            assert len(between) > made.pairs_per_person // 2

    @settings(deadline=None, max_examples=100)
    @given(numbers(), names)
    def test_catch_trials_are_spread(self, numbers, name):
        made = deck(*numbers)
        check_numbers(made)
        trials = draw(made, name)
        assert not is_catch(trials[0])
        places = [len(main(trials[:i])) for i, t in enumerate(trials) if is_catch(t)]
        count = made.pairs_per_person
        assert len(places) == made.catches
        for i, place in enumerate(places):  # one in each stretch of comparisons
            assert i * count // made.catches < place <= (i + 1) * count // made.catches
        shown = Counter(t.photo for t in trials if is_catch(t)).values()
        assert not shown or max(shown) <= -(-made.catches // len(made.photos))

    def test_everyone_gets_something_else_and_always_the_same(self):
        made = deck(photos=10, count=20)
        assert draw(made, "p1") == draw(made, "p1")
        assert len({tuple(draw(made, f"p{i}")) for i in range(50)}) == 50
        assert draw(deck(photos=10, count=20, study="other"), "p1") != draw(made, "p1")

    def test_sides_places_and_pairs_are_even_over_participants(self):
        """Every photo and pair is drawn as often, on each side, at each place: 600 people, bounds of 5 sigma."""
        made, people = deck(photos=5, systems=3, count=6, repeats=1, catches=0), 600
        drawn = [main(draw(made, f"person-{i}")) for i in range(people)]
        seen = Counter(code for trials in drawn for t in trials for code in ((t.left, t.right), "all"))
        every = [pair for p in made.photos for pair in p.pairs]
        assert len(every) == 15
        for pair in every:
            for sides in (pair, pair[::-1]):
                p = 6 / 15 / 2
                assert abs(seen[sides] - people * p) < 5 * (people * p * (1 - p)) ** 0.5
        first = Counter(trials[0].photo for trials in drawn)
        assert all(abs(first[p.name] - people / 5) < 5 * (people * 0.16) ** 0.5 for p in made.photos)


class TestDraws:
    def test_is_even(self):
        draws = Draws(5)
        counts = Counter(draws.below(7) for _ in range(7000))
        assert set(counts) == set(range(7))
        assert all(abs(c - 1000) < 150 for c in counts.values())

    def test_seeds_differ(self):
        assert len({seed_of(f"study{i}", f"p{j}") for i in range(50) for j in range(50)}) == 2500

    def test_orders_are_even(self):
        draws = Draws(9)
        counts = Counter(tuple(draws.order(3)) for _ in range(6000))
        assert set(counts) == set(itertools.permutations(range(3)))
        assert all(abs(c - 1000) < 150 for c in counts.values())


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"count": 0}, "--pairs-per-person 0: must be from 1 to 18"),
        ({"count": 19}, r"--pairs-per-person 19: must be from 1 to 18 \(6 photos with 3 pairs of systems\)"),
        ({"count": 5, "repeats": 4}, "--repeats 4: must be from 0 to half of --pairs-per-person 5"),
        ({"repeats": -1}, "--repeats -1"),
        ({"catches": 13}, "--catches 13: must be from 0 to --pairs-per-person 12"),
        ({"photos": 0}, "--pairs-per-person 12: must be from 1 to 0"),
    ],
)
def test_too_much_is_refused(wanted, told):
    with pytest.raises(StudyError, match=told):
        check_numbers(deck(**wanted))


@pytest.mark.parametrize(
    ("pairs", "wishes", "numbers"),
    [
        (100, ("pairs_per_person", "repeats"), (40, 4)),
        (6, ("pairs_per_person", "repeats"), (6, 3)),
        (6, ("repeats",), (40, 4)),  # demanded, and refused later
        (1, ("pairs_per_person",), (1, 4)),
        (0, ("pairs_per_person", "repeats"), (0, 0)),
    ],
)
def test_wishes_become_smaller_and_demands_do_not(pairs, wishes, numbers):
    made = fitted(Settings(), pairs, wishes)
    assert (made.pairs_per_person, made.repeats) == numbers
