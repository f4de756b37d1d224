"""Processes that wait for each other; here each is a thread."""

import socket
import threading
import time

import pytest

from jaxcolor.runtime import rendezvous
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.rendezvous import meet


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def run(address, *processes, limit=20.0):
    """What each of the processes (count, index, seconds later) ended with: None, or the error."""
    ends = {}

    def one(number, count, index, later):
        time.sleep(later)
        try:
            ends[number] = meet(address, count, index, limit)
        except UserError as error:
            ends[number] = str(error)

    threads = [threading.Thread(target=one, args=(n, *process)) for n, process in enumerate(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [ends.get(number, "waits") for number in range(len(processes))]


def test_in_any_order(address):
    assert run(address, (3, 2, 0), (3, 0, 0.5), (3, 1, 1)) == [None] * 3
    assert run(address, (2, 0, 0), (2, 1, 0)) == [None] * 2  # the address is free again


def test_who_did_not_come_is_said(address, monkeypatch, capsys):
    monkeypatch.setattr(rendezvous, "SECONDS", 0.3)
    first, second = run(address, (4, 0, 0), (4, 2, 0), limit=1.5)
    assert first == (
        f"processes 1, 3 of 4 at {address} did not come within 1.5 s; start all processes at about the same time, or "
        "give --config.join_seconds more"
    )
    assert "did not come within 1.5 s" in second
    said = capsys.readouterr().err
    assert f"waiting for processes 1, 3 of 4 at {address} (" in said
    (alone,) = run(address, (2, 1, 0), limit=1.0)
    assert alone.startswith(f"process 0 of 2 at {address} did not come within 1 s")


def test_counts_that_differ(address):
    first, second = run(address, (2, 0, 0), (3, 1, 0), limit=1.0)
    assert second == "--processes 3: process 0 was told that there are 2"
    assert "process 1 of 2" in first


def test_two_that_say_they_are_the_same(address):
    ends = run(address, (3, 0, 0), (3, 1, 0), (3, 1, 0.3), limit=5.0)
    assert ends == ["--process 1: two processes say that they are this one"] * 3


def test_strangers_do_no_harm(address):
    host, port = address.split(":")

    def knock():
        time.sleep(0.5)
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")

    thread = threading.Thread(target=knock)
    thread.start()
    assert run(address, (2, 0, 0), (2, 1, 1.0)) == [None, None]
    thread.join()


@pytest.mark.parametrize("wrong", ["localhost", "localhost:", "localhost:x", ":1", "localhost:70000"])
def test_addresses_that_cannot_be(wrong):
    with pytest.raises(UserError, match=f"--coordinator {wrong}: must be HOST:PORT"):
        meet(wrong, 2, 0, 1.0)


def test_an_address_that_is_taken(address):
    refused = pytest.raises(UserError, match=f"--coordinator {address}: process 0 cannot listen there")
    with socket.create_server(("", int(address.split(":")[1]))), refused:
        meet(address, 2, 0, 1.0)
