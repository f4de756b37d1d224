"""Errors that a person can fix, and the one place that reports them."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable


class UserError(ValueError):
    """A file, a setting or an argument that cannot be used; the message names it and says what to do.

    Everything that jaxcolor raises for reasons outside the code derives from it.
    """


class StoppedError(UserError):
    """A run that was asked to stop, and saved its state.

    Attributes:
      status: the exit status: 130 after SIGINT; 0 after SIGTERM, which is how schedulers preempt.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def one_line(error: BaseException, most: int = 400) -> str:
    """An error's text without line breaks, its class where it has none; cut, since some libraries write pages."""
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= most else f"{text[: most - 1]}…"


def printable(text: str) -> str:
    """Text whose control characters, but line breaks, are escaped, as are bytes of file names that are not UTF-8.

    A file name may hold what moves the cursor or clears the screen.
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def exit_status(program: str, work: Callable[[], object]) -> int:
    """Run ``work``; what a person can fix ends it with a message on standard error, without a traceback.

    Returns:
      The exit status: 0, 1 after a message, 130 when interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold bytes that no encoding has
    try:
        work()
    except StoppedError as stopped:
        print(f"{program}: {printable(str(stopped))}", file=sys.stderr)
        return stopped.status
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except UserError as error:
        print(f"{program}: {printable(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"{program}: {printable(f'{where}{error.strerror or error}')}", file=sys.stderr)
        return 1
    return 0
