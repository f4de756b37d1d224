"""Which pictures a participant compares: drawn from the participant's name, by the page and here alike.

``templates/draw.html`` is the same in JavaScript; tests compare the two. So the page needs no server, and whoever
analyses answers can tell whether they belong to the study.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, MutableSequence
from typing import Any, NamedTuple, TypeVar

from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.text import counted

T = TypeVar("T")

_MASK = 0xFFFFFFFF


class StudyError(UserError):
    """A study, its key or its answers that cannot be used; one line that names the file or the field."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a study is run.

    Attributes:
      condition: ``prefer``: every pair of systems; ``real``: every system against the original.
      pairs_per_person: comparisons that a participant makes; repeats and catch trials come on top.
      repeats: of these comparisons, those shown once more, with the sides swapped.
      catches: comparisons of the original with its gray copy, in which only inattention chooses the gray one.
      least_ms: milliseconds for which a pair must have been in view before an answer counts.
      most_zoom: how far the page enlarges a picture at most, in CSS pixels a picture pixel.
    """

    condition: str = "prefer"
    pairs_per_person: int = 40
    repeats: int = 4
    catches: int = 0
    least_ms: int = 300
    most_zoom: float = 2.0


def fitted(settings: Settings, pairs: int, wishes: Collection[str]) -> Settings:
    """Settings of which some are no more than there can be.

    Args:
      settings: as wished or demanded.
      pairs: how many different comparisons there are: photos times pairs of systems.
      wishes: which of ``pairs_per_person`` and ``repeats`` nobody demanded.
    """
    count = settings.pairs_per_person
    count = min(count, pairs) if "pairs_per_person" in wishes else count
    repeats = min(settings.repeats, (count + 1) // 2) if "repeats" in wishes else settings.repeats
    return dataclasses.replace(settings, pairs_per_person=count, repeats=repeats)


CONDITIONS = ("prefer", "real")


@dataclasses.dataclass(frozen=True)
class DeckPhoto:
    """A photo as the page knows it: all names are neutral.

    Attributes:
      name: of the photo, in the answers.
      size: width and height in pixels, those of all its pictures.
      pairs: codes of the pictures that are compared; one a pair of systems, in the same order for every photo. Which
        of the two comes first is random.
      reference: code of the gray photo that is shown with each pair.
      catch: codes of the original and its gray copy.
    """

    name: str
    size: tuple[int, int]
    pairs: tuple[tuple[str, str], ...]
    reference: str | None = None
    catch: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Deck:
    """All that the page is given to draw from; nothing in it says which picture is whose.

    Attributes:
      study: the study's identity.
      pairs_per_person: as in ``Settings``.
      repeats: as in ``Settings``.
      catches: as in ``Settings``.
      photos: each with the same number of pairs.
    """

    study: str
    pairs_per_person: int
    repeats: int
    catches: int
    photos: tuple[DeckPhoto, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return dataclasses.asdict(self)


class Trial(NamedTuple):
    """One choice that a participant makes."""

    photo: str
    left: str
    """Code of the picture on the left, or above."""
    right: str
    repeat_of: int | None = None
    """Number of the trial, from 1, that it repeats with the sides swapped."""


class Draws:
    """32-bit numbers: Weyl sequence and MurmurHash3's finaliser, as SplitMix (Steele et al. 2014), from one seed.

    Small enough to be the same in JavaScript, whose own generator cannot be seeded.
    """

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1, for n below 2**21 (JavaScript's numbers are exact to 2**53)."""
        self._state = (self._state + 0x9E3779B9) & _MASK
        return (_mixed(self._state) * n) >> 32

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Fisher and Yates, in place."""
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]

    def order(self, n: int) -> list[int]:
        """The numbers from 0 to n - 1, shuffled."""
        items = list(range(n))
        self.shuffle(items)
        return items


def _mixed(x: int) -> int:
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _MASK
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _MASK
    return x ^ (x >> 16)


def seed_of(study: str, participant: str) -> int:
    """A participant's seed: FNV-1a over the UTF-8 of both names, mixed; 32 bits."""
    seed = 0x811C9DC5
    for byte in f"{study}/{participant}".encode():
        seed = ((seed ^ byte) * 0x01000193) & _MASK
    return _mixed(seed)


def draw(deck: Deck, participant: str) -> list[Trial]:
    """The trials of a participant, in order.

    Each pair of systems comes as often as any other, and each photo too, give or take one; no photo comes twice with
    the same pair. The order and the sides are random. A repeat comes at least half of the comparisons after what it
    repeats; catch trials are spread, none comes first.

    Args:
      deck: checked by ``check_numbers``.
      participant: any name.
    """
    draws = Draws(seed_of(deck.study, participant))
    n, groups, count = len(deck.photos), len(deck.photos[0].pairs), deck.pairs_per_person
    photo_order, group_order = draws.order(n), draws.order(groups)
    # Both go round; where both are at their start again before all has come, the pairs move on by one.
    period = math.lcm(n, groups)
    main = []
    for i in range(count):
        photo = deck.photos[photo_order[i % n]]
        pair = photo.pairs[group_order[(i + i // period) % groups]]
        main.append(_sided(draws, photo.name, pair))
    draws.shuffle(main)

    later: list[list[Trial | int]] = [[] for _ in main]
    """After each comparison: the catch trials, and the numbers in ``main`` of what is repeated."""
    for first in draws.order((count + 1) // 2)[: deck.repeats]:
        later[first + count // 2 + draws.below((count + 1) // 2 - first)].append(first)
    catch_order = draws.order(n)
    for i in range(deck.catches):
        start, end = i * count // deck.catches, (i + 1) * count // deck.catches
        photo = deck.photos[catch_order[i % n]]
        assert photo.catch is not None
        trial = _sided(draws, photo.name, photo.catch)
        later[start + draws.below(end - start)].append(trial)

    trials: list[Trial] = []
    numbers: dict[int, int] = {}
    for i, trial in enumerate(main):
        trials.append(trial)
        numbers[i] = len(trials)
        for extra in later[i]:
            if isinstance(extra, Trial):
                trials.append(extra)
            else:
                again = main[extra]
                trials.append(Trial(again.photo, again.right, again.left, numbers[extra]))
    return trials


def _sided(draws: Draws, photo: str, pair: tuple[str, str]) -> Trial:
    swapped = draws.below(2)
    return Trial(photo, pair[swapped], pair[1 - swapped])


def check_numbers(deck: Deck) -> None:
    """Whether as many trials can be drawn.

    Raises:
      StudyError: there are too few photos, or a number makes no sense.
    """
    count, groups = deck.pairs_per_person, len(deck.photos[0].pairs) if deck.photos else 0
    most = len(deck.photos) * groups
    if not 1 <= count <= most:
        raise StudyError(
            f"--pairs-per-person {count}: must be from 1 to {most} ({counted(len(deck.photos), 'photo')} with "
            f"{counted(groups, 'pair')} of systems)"
        )
    if not 0 <= deck.repeats <= (count + 1) // 2:
        raise StudyError(f"--repeats {deck.repeats}: must be from 0 to half of --pairs-per-person {count}")
    if not 0 <= deck.catches <= count:
        raise StudyError(f"--catches {deck.catches}: must be from 0 to --pairs-per-person {count}")
    if deck.catches and any(photo.catch is None for photo in deck.photos):
        raise StudyError(f"--catches {deck.catches}: needs the originals (--truth)")
