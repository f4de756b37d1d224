"""How far participants agree about the same pair of pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Agreement over the pairs of pictures that at least two participants judged.

    Attributes:
      alpha: Krippendorff's alpha for nominal data: 1 all agree, 0 as by chance. None: not defined, because no pair of
        pictures was judged twice, or all chose the system that the key names first (or all the other).
      observed: share of pairs of participants, of those who judged the same pair of pictures, that agree; weighted as
        in alpha, each judgement the same. 2 observed - 1 is Kendall's and Babington Smith's coefficient u where all
        judged all.
      units: pairs of pictures judged at least twice.
      judgements: of these.
    """

    alpha: float | None
    observed: float | None
    units: int
    judgements: int


def agreement(votes: Sequence[Sequence[bool]]) -> Agreement:
    """Krippendorff's alpha and what lies under it, see "Computing Krippendorff's Alpha-Reliability" (2011).

    The two categories are "the system that the key names first" and "the other". Where nearly all choices fall on one
    of them alpha is low however much people agree, since chance would agree too: read ``observed`` with it.

    Args:
      votes: for each pair of pictures, each participant's choice; any number of participants.
    """
    shared = [unit for unit in votes if len(unit) >= 2]
    n = sum(len(unit) for unit in shared)
    if not n:
        return Agreement(None, None, 0, 0)
    # Ordered pairs of differing judgements, each unit's weighted by 1 / (judgements - 1): the coincidence matrix.
    differing = sum(2 * sum(unit) * (len(unit) - sum(unit)) / (len(unit) - 1) for unit in shared)
    first = sum(sum(unit) for unit in shared)
    by_chance = 2 * first * (n - first) / (n - 1)
    alpha = 1 - differing / by_chance if by_chance else None
    return Agreement(alpha, 1 - differing / n, len(shared), n)
