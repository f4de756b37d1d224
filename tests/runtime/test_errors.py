"""What a person is told, and the exit status."""

import errno

import pytest

from jaxcolor.config import ConfigError
from jaxcolor.data.types import DataError
from jaxcolor.runtime.errors import StoppedError, UserError, exit_status
from jaxcolor.training.checkpoints import CheckpointError
from jaxcolor.training.monitor import TrainingError
from jaxcolor.weights.reference import WeightsError


def failing(error: BaseException) -> object:
    def work() -> None:
        raise error

    return work


CASES = [
    (UserError("the width is wide"), 1, "prog: the width is wide\n"),
    (StoppedError("saved at step 3", 0), 0, "prog: saved at step 3\n"),
    (StoppedError("saved at step 3", 130), 130, "prog: saved at step 3\n"),
    (KeyboardInterrupt(), 130, "prog: interrupted\n"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png"), 1, "a.png: No such file or directory"),
    (OSError("the disk is full"), 1, "prog: the disk is full\n"),
    (OSError(errno.ENOSPC, "No space left on device"), 1, "prog: the disk is full"),
]


@pytest.mark.parametrize(("error", "status", "message"), CASES, ids=lambda case: type(case).__name__)
def test_what_a_person_can_put_right_costs_one_line(
    error: BaseException, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status("prog", failing(error)) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.startswith("prog: ")
    assert captured.err.count("\n") == 1


def test_success_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("prog", lambda: "a result is no status") == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), ValueError("a bug"), AssertionError("a bug")])
def test_bugs_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="a bug"):
        exit_status("prog", failing(error))


@pytest.mark.parametrize("kind", [ConfigError, DataError, WeightsError, CheckpointError, TrainingError, StoppedError])
def test_every_error_of_ours_is_a_user_error(kind: type[Exception]) -> None:
    assert issubclass(kind, UserError)
    assert issubclass(kind, ValueError)
