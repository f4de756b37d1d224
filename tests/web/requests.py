"""Requests as programs send them, one connection each."""

import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

BOUNDARY = "photo-7f3a"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """Of an answer that refuses: its one line."""
        assert 400 <= self.status < 600
        assert self.body.count(b"\n") <= 1
        (text,) = self.json.values()
        assert text
        assert "\n" not in text
        return str(text)


def send(
    address: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def form(data: bytes, field: str = "photo", name: str = "old.png") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def post_photo(address: str, data: bytes, headers: dict[str, str] | None = None, **named: str) -> Answer:
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return send(address, "POST", "/api/photo", form(data, **named), kind | (headers or {}))


def ask(address: str, key: str, what: str, wish: Any, headers: dict[str, str] | None = None) -> Answer:
    body = wish if isinstance(wish, bytes) else json.dumps(wish).encode()
    kind = {"Content-Type": "application/json"} | (headers or {})
    return send(address, "POST", f"/api/photo/{key}/{what}", body, kind)
