"""Runs of one config share their steps; only correctness counts here."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.small import steps_once


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The folder of a module's finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture(scope="module", autouse=True)
def _steps_once() -> Iterator[None]:
    with steps_once():
        yield
