"""The page on which participants choose: one HTML file that works from the disk, and its wording."""

from __future__ import annotations

import json
from pathlib import Path

from jaxcolor.runtime.errors import one_line
from jaxcolor.runtime.html import environment
from jaxcolor.runtime.regular_file import read_regular
from jaxcolor.study.plan import Deck, Settings, StudyError

WORDING = {
    "title": "Which colors look more natural?",
    "welcome": "You will see the same photo in two versions, which were colored in different ways. "
    "Choose the one whose colors look more natural to you. There is no right or wrong answer; your first impression "
    "is what counts.",
    "how": "Press ← or 1 for the first picture, → or 2 for the second, or click or touch the picture. "
    "Backspace takes you back to the previous pair.",
    "before": "Please use a screen at normal brightness, without a night or blue light filter. If you wear glasses for "
    "reading, put them on.",
    "privacy": "The page sends nothing over the network. It records your participant ID, your choices, when and how "
    "fast you made them, and the size of your screen. All of it is in the file that you save at the end, and in this "
    "browser until its data are deleted. You may stop at any time by closing the page; then nobody gets your answers.",
    "consent": "I have read this and take part voluntarily.",
    "participant": "Participant ID",
    "participant_hint": "As it was given to you: letters, digits, - and _",
    "begin": "Begin",
    "length": "There are {count} pairs.",
    "question": "Which colors look more natural?",
    "reference": "The gray photo",
    "first": "First picture",
    "second": "Second picture",
    "back": "Back",
    "progress": "{done} of {count}",
    "too_soon": "Please look a little longer.",
    "loading": "Loading the pictures …",
    "resumed": "Welcome back: you go on where you left.",
    "end_title": "Thank you!",
    "end": "That was the last pair. Please save your answers now, and send the file to whoever asked you to take part.",
    "download": "Save answers",
    "to_clipboard": "Copy answers",
    "copied": "Copied.",
    "not_copied": "Could not copy: please select the text below and copy it.",
    "as_text": "Answers as text",
    "next": "Next participant",
    "not_kept": "This browser keeps nothing: please do not close or reload the page before you have saved "
    "your answers.",
    "broken": "A picture could not be loaded. Please tell whoever asked you to take part: {name}",
    "no_script": "This page needs JavaScript.",
}
"""Text of the page -> its words; ``--wording`` changes them. ``{count}``, ``{done}`` and ``{name}`` are filled in."""

REAL_WORDING = {
    "title": "Which one is the real photo?",
    "welcome": "You will see the same photo in two versions: the original, and one whose colors were added by a "
    "computer. Choose the one that you take for the original. Your first impression is what counts.",
    "question": "Which one is the real photo?",
}
"""What the condition ``real`` says otherwise."""

_FILLED_IN = ("{count}", "{done}", "{name}")


def read_wording(path: Path | None, condition: str) -> dict[str, str]:
    """The texts of the page.

    Args:
      path: JSON file that gives some of ``WORDING`` anew; None: none.
      condition: as in ``Settings``.

    Raises:
      StudyError: the file cannot be read, a text is unknown or none, or one lacks a part that is filled in.
    """
    own = WORDING | (REAL_WORDING if condition == "real" else {})
    if path is None:
        return own
    try:
        given = json.loads(read_regular(path).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error, 120)
        raise StudyError(f"--wording {path}: cannot be read as JSON: {reason}") from error
    if not isinstance(given, dict):
        raise StudyError(f"--wording {path}: must be an object of texts")
    for name, text in given.items():
        if name not in own:
            raise StudyError(f"--wording {path}: there is no text {name!r}; there are {', '.join(own)}")
        if not isinstance(text, str) or not text.strip():
            raise StudyError(f"--wording {path}: {name!r} must be a text")
        lacking = [part for part in _FILLED_IN if part in own[name] and part not in text]
        if lacking:
            raise StudyError(f"--wording {path}: {name!r} must hold {lacking[0]}, which the page fills in")
    return own | given


def page(deck: Deck, wording: dict[str, str], settings: Settings) -> str:
    """The page as text; pictures are expected at ``pictures/<code>.png`` beside it.

    Args:
      deck: what it draws from.
      wording: from ``read_wording``.
      settings: how long a pair is in view at least, and how far it is enlarged.
    """
    return (
        environment("jaxcolor.study")
        .get_template("study.html")
        .render(
            words=wording,
            data={
                "deck": deck.to_dict(),
                "words": wording,
                "least_ms": settings.least_ms,
                "most_zoom": settings.most_zoom,
            },
        )
    )
