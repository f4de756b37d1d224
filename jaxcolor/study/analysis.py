"""What the answers of a study say: preferences, Bradley-Terry scores, agreement, and whose answers count."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import binomtest

from jaxcolor.study.agreement import Agreement, agreement
from jaxcolor.study.answers import Answer, Session
from jaxcolor.study.key import GRAY, Key
from jaxcolor.study.plan import StudyError

PSEUDO_WINS = 0.5
"""Added to each side of each pair before Bradley-Terry scores are fitted: without, a system that never wins, or never
loses, has no finite score (the comparisons are separated). Half a win is what Jeffreys' prior adds to a proportion."""

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Rules:
    """How answers are judged.

    Attributes:
      most_failed: a participant who fails a larger share of the catch trials is left out.
      keep_all: leave nobody out.
      resamples: of the bootstrap over participants; 0: none.
      seed: of the bootstrap.
    """

    most_failed: float = 0.25
    keep_all: bool = False
    resamples: int = 1000
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Share:
    """A number of times out of another.

    Attributes:
      hits: how often.
      of: out of how many.
      wilson: 95% Wilson score interval of the share; None: out of none.
    """

    hits: int
    of: int
    wilson: Interval | None

    @property
    def value(self) -> float | None:
        """The share, None out of none."""
        return self.hits / self.of if self.of else None


def share(hits: int, of: int) -> Share:
    """A share with its 95% Wilson interval."""
    if not of:
        return Share(hits, of, None)
    interval = binomtest(hits, of).proportion_ci(0.95, "wilson")
    return Share(hits, of, (float(interval.low), float(interval.high)))


def half_width(judgements: int) -> float:
    """Half of the 95% Wilson interval's width at a share of one half, the widest there is."""
    z = 1.959963984540054
    return z / (2 * math.sqrt(judgements + z * z))


@dataclasses.dataclass(frozen=True)
class Preference:
    """How often one system was chosen over another; repeats and catch trials not counted.

    Attributes:
      first: the system.
      second: the other.
      wins: of ``first``; its interval takes all judgements for independent.
      bootstrap: 95% percentile interval of the share over participants, who differ; None for fewer than 2.
      p: two-sided exact binomial test of one half; None without judgements.
    """

    first: str
    second: str
    wins: Share
    bootstrap: Interval | None
    p: float | None


@dataclasses.dataclass(frozen=True)
class Score:
    """A system's strength in the Bradley-Terry model (1952): log odds, all systems' mean 0.

    ``a`` is chosen over ``b`` with probability 1 / (1 + exp(score b - score a)).

    Attributes:
      system: its name.
      score: maximum likelihood, after ``PSEUDO_WINS``.
      bootstrap: 95% percentile interval over participants; None for fewer than 2.
    """

    system: str
    score: float
    bootstrap: Interval | None


@dataclasses.dataclass(frozen=True)
class Person:
    """A participant.

    Attributes:
      participant: the name.
      comparisons: main trials.
      left: of these, those in which the left picture was chosen.
      repeats: times that a repeated pair got the same answer.
      failed: catch trials in which the gray picture was chosen.
      median_ms: median reaction time.
      reason: why the answers do not count; empty: they do, or ``keep_all``.
    """

    participant: str
    comparisons: int
    left: Share
    repeats: Share
    failed: Share
    median_ms: float
    reason: str


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Everything found.

    Attributes:
      study: identity.
      condition: of the study.
      question: as it was put.
      rules: with which it was made.
      people: all participants.
      counted: whose answers count.
      preferences: one a pair of systems.
      scores: best first.
      agreement: between participants.
      consistency: within participants, from repeats.
      left: choices of the left picture in comparisons.
      left_p: two-sided exact binomial test of no side bias.
    """

    study: str
    condition: str
    question: str
    rules: Rules
    people: tuple[Person, ...]
    counted: int
    preferences: tuple[Preference, ...]
    scores: tuple[Score, ...]
    agreement: Agreement
    consistency: Share
    left: Share
    left_p: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types, with a schema."""
        return {"schema": "jaxcolor-study", "version": 1, **dataclasses.asdict(self), "pseudo_wins": PSEUDO_WINS}


def analyse(key: Key, sessions: Sequence[Session], rules: Rules) -> Analysis:
    """Analyse the answers to a study.

    Args:
      key: the study's.
      sessions: one a participant, read with this key.
      rules: how they are judged.

    Raises:
      StudyError: no participant is left; choix, which fits Bradley-Terry scores, is not installed.
    """
    if not 0 <= rules.most_failed <= 1:
        raise StudyError(f"--most-failed {rules.most_failed}: must be from 0 to 1")
    if rules.resamples < 0:
        raise StudyError(f"--resamples {rules.resamples}: must be at least 0")
    people = tuple(_person(key, session, rules) for session in sessions)
    kept = [session for session, person in zip(sessions, people, strict=True) if not person.reason]
    if not kept:
        reasons = "; ".join(f"{person.participant}: {person.reason}" for person in people[:3])
        raise StudyError(f"no participant is left of {len(people)}{f' ({reasons})' if reasons else ''}")
    counted = [person for person in people if not person.reason]
    wins = np.stack([_wins(key, session) for session in kept])
    resampled = _resampled(wins, rules)
    left = share(sum(p.left.hits for p in counted), sum(p.left.of for p in counted))
    return Analysis(
        study=key.deck.study,
        condition=key.settings.condition,
        question=key.wording.get("question", ""),
        rules=rules,
        people=people,
        counted=len(kept),
        preferences=_preferences(key, wins.sum(axis=0), resampled),
        scores=_scores(key, wins.sum(axis=0), resampled),
        agreement=agreement(_votes(key, kept)),
        consistency=share(sum(p.repeats.hits for p in counted), sum(p.repeats.of for p in counted)),
        left=left,
        left_p=float(binomtest(left.hits, left.of).pvalue),
    )


def _person(key: Key, session: Session, rules: Rules) -> Person:
    catches = [a for a in session.answers if key.is_catch(a.trial.left, a.trial.right)]
    repeats = [a for a in session.answers if a.trial.repeat_of is not None]
    main = _main(key, session)
    same = sum(a.chosen == session.answers[a.trial.repeat_of - 1].chosen for a in repeats if a.trial.repeat_of)
    failed = sum(key.owners[a.chosen] == GRAY for a in catches)
    out = bool(catches) and failed > rules.most_failed * len(catches) and not rules.keep_all
    return Person(
        participant=session.participant,
        comparisons=len(main),
        left=share(sum(a.is_left for a in main), len(main)),
        repeats=share(same, len(repeats)),
        failed=share(failed, len(catches)),
        median_ms=float(np.median([a.reaction_ms for a in main])),
        reason=f"failed {failed} of {len(catches)} catch trials" if out else "",
    )


def _main(key: Key, session: Session) -> list[Answer]:
    """Answers that count: neither to repeats nor to catch trials."""
    return [a for a in session.answers if a.trial.repeat_of is None and not key.is_catch(a.trial.left, a.trial.right)]


def _comparisons(key: Key, session: Session) -> list[tuple[str, str, str]]:
    """Photo, system chosen, system not chosen, of each main trial."""
    return [(a.trial.photo, key.owners[a.chosen], key.owners[a.other]) for a in _main(key, session)]


def _wins(key: Key, session: Session) -> Int64[np.ndarray, "K K"]:
    """How often the row's system was chosen over the column's."""
    index = {system: i for i, system in enumerate(key.systems)}
    wins = np.zeros((len(index), len(index)), np.int64)
    for _, chosen, other in _comparisons(key, session):
        wins[index[chosen], index[other]] += 1
    return wins


def _votes(key: Key, sessions: Sequence[Session]) -> list[list[bool]]:
    """For each photo and pair of systems that was judged: who chose the system that the key names first."""
    rank = key.systems.index
    votes: dict[tuple[str, frozenset[str]], list[bool]] = {}
    for session in sessions:
        for photo, chosen, other in _comparisons(key, session):
            votes.setdefault((photo, frozenset((chosen, other))), []).append(rank(chosen) < rank(other))
    return list(votes.values())


def _resampled(wins: Int64[np.ndarray, "P K K"], rules: Rules) -> Int64[np.ndarray, "R K K"] | None:
    """Wins of as many participants drawn with replacement, again and again."""
    if len(wins) < 2 or not rules.resamples:
        return None
    rng = np.random.default_rng(rules.seed)
    return np.stack([wins[rng.integers(len(wins), size=len(wins))].sum(axis=0) for _ in range(rules.resamples)])


def _preferences(
    key: Key, wins: Int64[np.ndarray, "K K"], resampled: Int64[np.ndarray, "R K K"] | None
) -> tuple[Preference, ...]:
    found = []
    for first, second in key.pairs:
        i, j = key.systems.index(first), key.systems.index(second)
        hits, of = int(wins[i, j]), int(wins[i, j] + wins[j, i])
        bootstrap = None
        if resampled is not None:
            totals = resampled[:, i, j] + resampled[:, j, i]
            judged = totals > 0  # few participants with few trials may leave a pair out
            bootstrap = _interval(resampled[judged, i, j] / totals[judged]) if judged.any() else None
        p = float(binomtest(hits, of).pvalue) if of else None
        found.append(Preference(first, second, share(hits, of), bootstrap, p))
    return tuple(found)


def _scores(
    key: Key, wins: Int64[np.ndarray, "K K"], resampled: Int64[np.ndarray, "R K K"] | None
) -> tuple[Score, ...]:
    comparisons = np.zeros(wins.shape)
    for first, second in key.pairs:
        i, j = key.systems.index(first), key.systems.index(second)
        comparisons[i, j] = comparisons[j, i] = PSEUDO_WINS
    scores = bradley_terry(wins + comparisons)
    intervals: list[Interval | None] = [None] * len(scores)
    if resampled is not None:
        again = np.stack([bradley_terry(drawn + comparisons) for drawn in resampled])
        intervals = [_interval(column) for column in again.T]
    rows = [Score(s, float(x), i) for s, x, i in zip(key.systems, scores, intervals, strict=True)]
    return tuple(sorted(rows, key=lambda row: -row.score))


def bradley_terry(wins: Float64[np.ndarray, "K K"]) -> Float64[np.ndarray, " K"]:
    """Maximum-likelihood scores: log odds with mean 0, by iterative Luce spectral ranking (Maystre, Grossglauser 2015).

    Args:
      wins: how often the row's system was chosen over the column's; from every system one must be able to get to
        every other from winner to loser, as ``PSEUDO_WINS`` sees to.

    Raises:
      StudyError: choix is not installed.
    """
    try:
        import choix
    except ImportError as error:
        raise StudyError("Bradley-Terry scores need choix: pip install 'jaxcolor[study]'") from error
    scores = np.asarray(choix.ilsr_pairwise_dense(wins, max_iter=10_000))
    return scores - scores.mean()


def _interval(values: Float64[np.ndarray, " R"]) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
