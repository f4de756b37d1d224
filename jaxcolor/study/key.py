"""The key of a study: which picture is whose. It stays with the researcher."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from jaxcolor.runtime.atomic import write_text
from jaxcolor.study.plan import CONDITIONS, Deck, DeckPhoto, Settings, StudyError, check_numbers
from jaxcolor.study.reading import Fields, read_object

KEY_NAME = "key.json"
TRUTH, GRAY = "truth", "gray"
"""How the key calls the originals and the gray photos; no system may have these names."""

_SCHEMA, _VERSION = "jaxcolor-study-key", 1


@dataclasses.dataclass(frozen=True)
class Key:
    """A study with its secret.

    Attributes:
      deck: what the page draws from.
      systems: names, in the order given; ``truth`` last where it is compared.
      stems: neutral name of a photo -> stem of its file.
      owners: code of a picture -> its system, ``truth`` or ``gray``.
      settings: with which it was made.
      wording: the page's texts.
      seed: from which codes and orders were drawn.
    """

    deck: Deck
    systems: tuple[str, ...]
    stems: dict[str, str]
    owners: dict[str, str]
    settings: Settings
    wording: dict[str, str]
    seed: int

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of systems that are compared, each in the order of ``systems``."""
        photo = self.deck.photos[0]
        found = {(self.owners[a], self.owners[b]) for a, b in photo.pairs}
        return tuple(
            (first, second)
            for i, first in enumerate(self.systems)
            for second in self.systems[i + 1 :]
            if (first, second) in found or (second, first) in found
        )

    def is_catch(self, left: str, right: str) -> bool:
        """Whether a trial of these codes compares the original with its gray copy."""
        return {self.owners[left], self.owners[right]} == {TRUTH, GRAY}


def write_key(path: Path, key: Key) -> None:
    """Write a key; raises as ``atomic.atomic_write``."""
    record = {"schema": _SCHEMA, "version": _VERSION, **dataclasses.asdict(key)}
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def read_key(path: Path) -> Key:
    """The key of a study.

    Args:
      path: the file, or the folder that ``jaxcolor study make`` wrote.

    Raises:
      StudyError: it cannot be read, or is not a whole key.
    """
    path = path / KEY_NAME if path.is_dir() else path
    fields = Fields(str(path), read_object(path, _SCHEMA, _VERSION))
    deck_fields = Fields(f"{path}: deck", fields.table("deck"))
    photos = tuple(_photo(f"{path}: deck photo {i}", p) for i, p in enumerate(deck_fields.items("photos"), 1))
    counts = {name: deck_fields.whole(name) for name in ("pairs_per_person", "repeats", "catches")}
    systems = tuple(_texts(f"{path}: systems", fields.items("systems")))
    key = Key(
        deck=Deck(deck_fields.text("study"), photos=photos, **counts),
        systems=systems,
        stems={k: str(v) for k, v in fields.table("stems").items()},
        owners={k: str(v) for k, v in fields.table("owners").items()},
        settings=_settings(f"{path}: settings", fields.table("settings")),
        wording={k: str(v) for k, v in fields.table("wording").items()},
        seed=fields.whole("seed"),
    )
    _check(path, key)
    return key


def _photo(where: str, record: object) -> DeckPhoto:
    fields = Fields(where, record)
    reference = fields.take("reference", (str, type(None)), "a code or null")
    catch = fields.take("catch", (list, type(None)), "two codes or null")
    width, height = _two(f"{where}: size", fields.items("size"), int)
    return DeckPhoto(
        name=fields.text("name"),
        size=(width, height),
        pairs=tuple(_two(f"{where}: pairs", pair, str) for pair in fields.items("pairs")),
        reference=reference,
        catch=None if catch is None else _two(f"{where}: catch", catch, str),
    )


def _two(where: str, value: Any, kind: type) -> tuple[Any, Any]:
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(v, kind) for v in value)):
        raise StudyError(f"{where}: must be a list of two")
    return value[0], value[1]


def _texts(where: str, values: list[Any]) -> list[str]:
    if not all(isinstance(v, str) for v in values) or len(set(values)) < max(len(values), 2):
        raise StudyError(f"{where}: must be a list of two or more names")
    return values


def _settings(where: str, record: dict[str, Any]) -> Settings:
    fields = Fields(where, record)
    settings = Settings(
        condition=fields.text("condition"),
        pairs_per_person=fields.whole("pairs_per_person"),
        repeats=fields.whole("repeats"),
        catches=fields.whole("catches"),
        least_ms=fields.whole("least_ms"),
        most_zoom=fields.number("most_zoom"),
    )
    if settings.condition not in CONDITIONS:
        raise StudyError(f"{where}: condition {settings.condition!r}: must be one of {', '.join(CONDITIONS)}")
    return settings


def _check(path: Path, key: Key) -> None:
    """Whether all codes have owners and every photo has the same pairs."""
    photos = key.deck.photos
    codes = [c for p in photos for c in (*(c for pair in p.pairs for c in pair), *(p.catch or ()))]
    codes += [p.reference for p in photos if p.reference is not None]
    unknown = [code for code in codes if key.owners.get(code) not in (*key.systems, TRUTH, GRAY)]
    if unknown:
        raise StudyError(f"{path}: owners: picture {unknown[0]!r} belongs to no system")
    pairs = [[frozenset(key.owners[c] for c in pair) for pair in p.pairs] for p in photos]
    if not photos or any(found != pairs[0] for found in pairs) or len(set(pairs[0])) < max(len(pairs[0]), 1):
        raise StudyError(f"{path}: deck: the photos must have the same pairs of systems, each once")
    compared = {system for pair in pairs[0] for system in pair}
    if compared != set(key.systems) or any(len(pair) != 2 for pair in pairs[0]):
        raise StudyError(f"{path}: systems: must be those that the deck compares")
    try:
        check_numbers(key.deck)
    except StudyError as error:
        raise StudyError(f"{path}: deck: {error}") from error
