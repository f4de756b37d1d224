"""Decks, studies and simulated participants."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from jaxcolor.study.answers import SCHEMA, VERSION
from jaxcolor.study.key import GRAY, TRUTH, Key
from jaxcolor.study.make import make_study
from jaxcolor.study.plan import Deck, DeckPhoto, Settings, draw, seed_of


def deck(photos=6, systems=3, count=12, repeats=3, catches=2, study="abc"):
    """A deck whose codes tell photo and system: s1k2 is system 1's picture of photo 2."""
    pairs = [(i, j) for i in range(systems) for j in range(i + 1, systems)]
    made = tuple(
        DeckPhoto(f"k{n}", (8, 6), tuple((f"s{i}k{n}", f"s{j}k{n}") for i, j in pairs), f"gk{n}", (f"tk{n}", f"gk{n}"))
        for n in range(photos)
    )
    return Deck(study, count, repeats, catches, made)


def key(**of_deck):
    """The key of a ``deck``: systems a, b, c …"""
    made = deck(**of_deck)
    names = "abcdefgh"[: of_deck.get("systems", 3)]
    owner = {"t": TRUTH, "g": GRAY}
    codes = {c for p in made.photos for pair in (*p.pairs, p.catch) for c in pair}
    return Key(
        deck=made,
        systems=tuple(names),
        stems={p.name: f"photo {p.name}" for p in made.photos},
        owners={c: owner[c[0]] if c[0] in owner else names[int(c[1])] for c in sorted(codes)},
        settings=Settings("prefer", made.pairs_per_person, made.repeats, made.catches),
        wording={"question": "Which?"},
        seed=1,
    )


def record(key, participant, choose):
    """What the page saves: ``choose`` is given the systems on the left and on the right, and says whether left."""
    trials = [
        {
            "trial": number,
            **trial._asdict(),
            "chosen": "left" if choose(key.owners[trial.left], key.owners[trial.right]) else "right",
            "reaction_ms": 1500.5,
        }
        for number, trial in enumerate(draw(key.deck, participant), 1)
    ]
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "study": key.deck.study,
        "participant": participant,
        "seed": seed_of(key.deck.study, participant),
        "trials": trials,
    }


def by_strength(strengths, rng):
    """Chooses as Bradley and Terry suppose, and never the gray picture of a catch trial."""

    def choose(left, right):
        if GRAY in (left, right):
            return right == GRAY
        return rng.random() < 1 / (1 + np.exp(strengths[right] - strengths[left]))

    return choose


def write(folder: Path, records):
    """Files of answers."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"answers_{r['participant']}.json" for r in records]
    for path, one in zip(paths, records, strict=True):
        path.write_text(json.dumps(one), encoding="utf-8")
    return paths


COLORS = {"red": (200, 60, 50), "green": (60, 170, 70), "blue": (50, 80, 200), "gray": (120,) * 3, "truth": (9, 99, 9)}


def folders(root: Path, names, photos=4, size=(24, 18)):
    """A folder of plain pictures for each name; each photo a little brighter than the one before."""
    for name in names:
        (root / name).mkdir()
        for number in range(photos):
            color = tuple(c + 4 * number for c in COLORS[name])
            Image.new("RGB", size, color).save(root / name / f"photo {number}.png")
    return {name: root / name for name in names}


def study(root: Path, systems=("red", "blue"), photos=4, **settings):
    """A whole study at ``root / "study"``, with gray photos and originals."""
    found = folders(root, (*systems, "gray", "truth"), photos)
    numbers = {"pairs_per_person": 4, "repeats": 1, "catches": 1, "least_ms": 0} | settings
    return make_study(
        {name: found[name] for name in systems},
        root / "study",
        Settings(**numbers),
        gray=found["gray"],
        truth=found["truth"],
        seed=3,
    ).key
