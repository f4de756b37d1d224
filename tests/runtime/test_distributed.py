"""Joining other processes: what is said when that cannot be. (That it works: tests/training/test_processes.py.)"""

import pytest

from jaxcolor.runtime import distributed
from jaxcolor.runtime.errors import UserError


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*distributed._COUNTS, "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Calls of JAX's own function, which would wait for others."""
    calls: list[dict[str, object]] = []
    monkeypatch.setattr("jax.distributed.initialize", lambda **arguments: calls.append(arguments))
    monkeypatch.setattr(distributed, "meet", lambda *arguments: None)
    return calls


def test_alone_starts_nothing(joined: list[dict[str, object]]) -> None:
    distributed.start()
    distributed.start("localhost:1", 1, 0)
    assert joined == []


def test_by_flags(joined: list[dict[str, object]]) -> None:
    distributed.start("host:1", 2, 1, 7.5)
    several = {"coordinator_address": "host:1", "num_processes": 2, "process_id": 1}
    assert joined == [several | {"initialization_timeout": 8}]


@pytest.mark.parametrize(
    ("name", "value", "several"),
    [
        ("SLURM_STEP_NUM_TASKS", "4", True),
        ("SLURM_STEP_NUM_TASKS", "1", False),
        ("SLURM_NTASKS", "4", False),  # there in a batch script too
        ("OMPI_COMM_WORLD_SIZE", "2", True),
        ("TPU_WORKER_HOSTNAMES", "host0", False),
        ("TPU_WORKER_HOSTNAMES", "host0,host1", True),
    ],
)
def test_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, joined: list[dict[str, object]], name: str, value: str, several: bool
) -> None:
    monkeypatch.setenv(name, value)
    distributed.start()
    assert joined == ([{"initialization_timeout": 300}] if several else [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", None, None), "--processes, --process missing: give all of --coordinator, --processes, --process"),
        ((None, 2, 1), "--coordinator missing"),
        (("host:1", 2, 2), "--process 2 of --processes 2: counted from 0, it must be less"),
    ],
)
def test_what_cannot_be(arguments: tuple[str | None, int | None, int | None], message: str) -> None:
    with pytest.raises(UserError, match=message):
        distributed.start(*arguments)


def test_others_that_are_not_to_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**arguments: object) -> None:
        raise RuntimeError("DEADLINE\nEXCEEDED")

    monkeypatch.setattr("jax.distributed.initialize", fail)
    monkeypatch.setattr(distributed, "meet", lambda *arguments: None)
    with pytest.raises(UserError, match=r"^cannot join host:1: DEADLINE EXCEEDED$"):
        distributed.start("host:1", 2, 1)
