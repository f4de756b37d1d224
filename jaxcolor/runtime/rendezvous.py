"""Processes of one run wait for each other before JAX does: JAX's own wait ends in an abort, and says nothing before.

The first process listens at the coordinator's address, the others connect and say which they are; when all are there
the first one answers, and the address is free for JAX's coordinator.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable

from jaxcolor.runtime.errors import UserError, one_line

SECONDS = 20.0
"""Between two lines that say who is waited for."""

_PAUSE = 0.2


def meet(address: str, count: int, index: int, limit: float) -> None:
    """Wait until all processes have come.

    Args:
      address: ``HOST:PORT`` of the first one.
      count: how many there are.
      index: which of them this is.
      limit: seconds after which the wait is given up.

    Raises:
      UserError: somebody has not come within the limit, two say that they are the same one, they count differently, or
        the address cannot be used; who and where is in the message.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"--coordinator {address}: must be HOST:PORT")
    clock = _Clock(limit)
    if index == 0:
        _receive(address, int(port), count, clock)
    else:
        _report(host.strip("[]"), int(port), count, index, clock)


class _Clock:
    """When to say something, and when to give up."""

    def __init__(self, limit: float) -> None:
        self._began = self._said = time.monotonic()
        self._limit = limit

    def wait(self, whom: Callable[[], str]) -> None:
        """A pause; says from time to time who is waited for.

        Raises:
          UserError: the limit is over.
        """
        now = time.monotonic()
        if now - self._began > self._limit:
            raise UserError(
                f"{whom()} did not come within {self._limit:g} s; start all processes at about the same time, or give "
                "--config.join_seconds more"
            )
        if now - self._said > SECONDS:
            self._said = now
            print(f"waiting for {whom()} ({now - self._began:.0f} of {self._limit:g} s)", file=sys.stderr, flush=True)
        time.sleep(_PAUSE)


def _receive(address: str, port: int, count: int, clock: _Clock) -> None:
    """The first process: collect the others."""
    there: dict[int, socket.socket] = {}

    def missing() -> str:
        numbers = [str(i) for i in range(1, count) if i not in there]
        return f"process{'es' if len(numbers) > 1 else ''} {', '.join(numbers)} of {count} at {address}"

    with _listen(address, port) as server:
        try:
            while len(there) < count - 1:
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    clock.wait(missing)
                    continue
                index, problem = _hello(connection, count)
                if problem:
                    _answer(connection, problem)
                    connection.close()
                    continue
                if index in there and _is_open(there[index]):
                    said = f"--process {index}: two processes say that they are this one"
                    for each in (connection, *there.values()):
                        _answer(each, said)
                    connection.close()
                    raise UserError(said)
                there[index] = connection  # again, where one was started anew
        finally:
            if len(there) == count - 1:
                for connection in there.values():
                    _answer(connection, "")
            for connection in there.values():
                connection.close()


def _listen(address: str, port: int) -> socket.socket:
    try:
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        server = socket.create_server(("", port), family=family, dualstack_ipv6=dual)
    except OSError as error:
        raise UserError(f"--coordinator {address}: process 0 cannot listen there ({one_line(error)})") from error
    server.settimeout(_PAUSE)
    return server


def _hello(connection: socket.socket, count: int) -> tuple[int, str]:
    """Who has connected, and what is wrong with that; strangers are no error."""
    connection.settimeout(2)
    try:
        said = json.loads(connection.makefile("rb").readline(200))
        index, theirs = int(said["process"]), int(said["processes"])
    except (OSError, ValueError, TypeError, KeyError):
        return -1, "not a process of jaxcolor"
    if theirs != count:
        return index, f"--processes {theirs}: process 0 was told that there are {count}"
    return index, ""


def _answer(connection: socket.socket, problem: str) -> None:
    try:
        connection.sendall(json.dumps({"problem": problem}).encode() + b"\n")
    except OSError:
        return


def _is_open(connection: socket.socket) -> bool:
    try:
        connection.setblocking(False)
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _report(host: str, port: int, count: int, index: int, clock: _Clock) -> None:
    """Another process: tell the first one, and wait for its answer."""

    def first() -> str:
        return f"process 0 of {count} at {host}:{port}"

    def others() -> str:
        return f"the other ones of {count} processes"

    while True:
        try:
            with socket.create_connection((host, port), timeout=2) as connection:
                connection.sendall(json.dumps({"process": index, "processes": count}).encode() + b"\n")
                answer = _wait_for_answer(connection, lambda: clock.wait(others))
        except OSError:
            answer = b""
        if answer:
            problem = json.loads(answer)["problem"]
            if problem:
                raise UserError(problem)
            return
        clock.wait(first)


def _wait_for_answer(connection: socket.socket, pause: Callable[[], None]) -> bytes:
    connection.settimeout(_PAUSE)
    answer = b""
    while not answer.endswith(b"\n"):
        try:
            part = connection.recv(1000)
        except TimeoutError:
            pause()
            continue
        if not part:
            return b""
        answer += part
    return answer
