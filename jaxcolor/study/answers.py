"""Participants' files of answers, read strictly: one that is not whole, or of another study, is refused by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxcolor.study.key import Key
from jaxcolor.study.plan import StudyError, Trial, draw, seed_of
from jaxcolor.study.reading import Fields, read_object

SCHEMA, VERSION = "jaxcolor-study-answers", 1

_PARTICIPANT = re.compile(r"[A-Za-z0-9_-]{1,40}")


class Answer(NamedTuple):
    """One choice."""

    trial: Trial
    is_left: bool
    """Whether the left picture was chosen."""
    reaction_ms: float
    """From when both pictures were in view to the choice."""

    @property
    def chosen(self) -> str:
        """Code of the picture that was chosen."""
        return self.trial.left if self.is_left else self.trial.right

    @property
    def other(self) -> str:
        """Code of the one that was not."""
        return self.trial.right if self.is_left else self.trial.left


class Session(NamedTuple):
    """All answers of one participant."""

    path: Path
    participant: str
    answers: tuple[Answer, ...]


def find_answers(paths: Sequence[Path]) -> list[Path]:
    """The files that are meant: those named, and ``*.json`` of folders.

    Raises:
      StudyError: a folder without such files.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob("*.json"))
            if not inside:
                raise StudyError(f"{path}: no answers here (*.json)")
            found += inside
        else:
            found.append(path)
    return found


def read_sessions(paths: Sequence[Path], key: Key) -> list[Session]:
    """The answers in some files.

    Raises:
      StudyError: as ``read_session``; two files of one participant.
    """
    sessions = [read_session(path, key) for path in paths]
    seen: dict[str, Path] = {}
    for session in sessions:
        if session.participant in seen:
            raise StudyError(
                f"{seen[session.participant]} and {session.path}: both of participant {session.participant!r}; "
                "take one of them out"
            )
        seen[session.participant] = session.path
    return sessions


def read_session(path: Path, key: Key) -> Session:
    """The answers in a file.

    Raises:
      StudyError: the file cannot be read, is of another study, or does not hold an answer to each of the trials that
        the page draws for its participant.
    """
    fields = Fields(str(path), read_object(path, SCHEMA, VERSION))
    study = fields.text("study")
    if study != key.deck.study:
        raise StudyError(f"{path}: answers of study {study}, not of {key.deck.study}")
    participant = fields.text("participant")
    if not _PARTICIPANT.fullmatch(participant):
        raise StudyError(f"{path}: participant {participant[:60]!r}: must be letters, digits, - and _, at most 40")
    if fields.whole("seed") != seed_of(study, participant):
        raise StudyError(f"{path}: 'seed' is not that of participant {participant!r}; was the file edited?")
    records = fields.items("trials")
    trials = draw(key.deck, participant)
    if len(records) != len(trials):
        raise StudyError(f"{path}: {len(records)} answers, where participant {participant!r} has {len(trials)} trials")
    answers = (_answer(f"{path}: trial {i}", r, t) for i, (r, t) in enumerate(zip(records, trials, strict=True), 1))
    return Session(path, participant, tuple(answers))


def _answer(where: str, record: object, drawn: Trial) -> Answer:
    fields = Fields(where, record)
    repeat_of = fields.take("repeat_of", (int, type(None)), "a whole number or null")
    trial = Trial(fields.text("photo"), fields.text("left"), fields.text("right"), repeat_of)
    if trial != drawn:
        raise StudyError(f"{where}: is not the trial that this study has there; was the file edited?")
    chosen = fields.text("chosen")
    if chosen not in ("left", "right"):
        raise StudyError(f"{where}: 'chosen' is {chosen[:60]!r}; must be 'left' or 'right'")
    return Answer(trial, chosen == "left", fields.number("reaction_ms"))
