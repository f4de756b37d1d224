"""The server over HTTP: what it answers, what it refuses, and that many clients at once lose nothing."""

import asyncio
import io
import resource
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxcolor import Colorizer
from jaxcolor.cli import main
from jaxcolor.hints import read_hints
from jaxcolor.runtime.errors import UserError
from jaxcolor.web import limits
from jaxcolor.web.serve import bound
from jaxcolor.web.service import BusyError, Service
from jaxcolor.weights import native, packaged
from tests import small
from tests.web import requests
from tests.web.conftest import MODEL, running
from tests.web.test_engine import encoded

RED = {"x": 60, "y": 20, "rgb": "#c02020"}
BOX = [5, 4, 40, 50]


@pytest.fixture(scope="module")
def key(address: str, photo: np.ndarray) -> str:
    return str(requests.post_photo(address, encoded(photo)).json["id"])


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_it_says_that_it_is_well(address: str) -> None:
    answer = requests.send(address, "GET", "/healthz")
    assert (answer.status, answer.json["status"]) == (200, "ok")


def test_the_page_needs_nothing_from_elsewhere(address: str) -> None:
    page = requests.send(address, "GET", "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/page.css", "/page.js", "/stage.js", "/server.js"):
        answer = requests.send(address, "GET", path)
        assert answer.status == 200
        assert b"http://" not in answer.body + page.body
        assert b"https://" not in answer.body + page.body


def test_a_photo_is_taken_shown_and_given_back(address: str, photo: np.ndarray, colorizer: Colorizer) -> None:
    added = requests.post_photo(address, encoded(photo), name="süß old.png")
    assert added.status == 201
    about = added.json
    assert (about["width"], about["height"], about["name"]) == (80, 60, "süß old.png")
    wish = {"boxes": [BOX], "hints": [RED], "vivid": 0.5}
    shown = requests.ask(address, about["id"], "show", wish)
    assert shown.headers["content-type"] == "image/jpeg"
    assert opened(shown.body).shape == (60, 80, 3)
    gray = opened(requests.ask(address, about["id"], "show", {"gray": True}).body).astype(int)
    assert np.abs(gray - photo).max() <= 6  # JPEG
    saved = requests.ask(address, about["id"], "download", wish)
    assert saved.headers["content-disposition"] == "attachment; filename*=UTF-8''s%C3%BC%C3%9F%20old.color.png"
    hint = native_hint(RED)
    expected = colorizer(photo, [BOX], hints=[hint], vivid=0.5)
    assert np.abs(opened(saved.body).astype(int) - expected).max() <= 1
    for kind, magic in (("jpeg", b"\xff\xd8"), ("webp", b"RIFF"), ("tiff", b"II*")):
        assert requests.ask(address, about["id"], "download", {"format": kind}).body.startswith(magic)
    assert requests.send(address, "DELETE", f"/api/photo/{about['id']}").status == 204
    gone = requests.ask(address, about["id"], "show", wish)
    assert (gone.status, gone.error) == (404, "this photo is no longer kept here; send it again")


def native_hint(fields: dict[str, Any]) -> Any:
    from jaxcolor import Hint

    return Hint(fields["x"], fields["y"], fields["rgb"])


def test_a_program_gets_the_picture_at_once(address: str, photo: np.ndarray, colorizer: Colorizer) -> None:
    answer = requests.post_photo(address, encoded(photo), {"Accept": "image/png"})
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert np.abs(opened(answer.body).astype(int) - colorizer(photo)).max() <= 1


def test_palettes_and_samples(address: str, key: str) -> None:
    colors = requests.ask(address, key, "palette", {"boxes": [BOX], "at": {"object": 0}}).json["colors"]
    assert sum(color["probability"] for color in colors) == pytest.approx(1, abs=1e-3)
    assert all(len(color["rgb"]) == 7 for color in colors)
    samples = requests.ask(address, key, "samples", {"boxes": [BOX], "hints": [RED], "count": 2}).json["samples"]
    assert len(samples) == 2
    assert samples[0]["hints"][-1] == RED
    assert samples[0]["picture"].startswith("data:image/jpeg;base64,")
    assert requests.ask(address, key, "show", {"hints": samples[1]["hints"]}).status == 200


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (requests.form(b"rubbish"), {}, 422, "old.png: cannot read this photo: cannot identify image file"),
        (requests.form(b"\x89PNG\r\n\x1a\n" + bytes(40)), {}, 422, "old.png: cannot read this photo"),
        (requests.form(b""), {}, 400, "is empty"),
        (requests.form(b"x", field="file"), {}, 400, "no file in the form field 'photo'"),
        (b"no form at all", {}, 400, ""),
        (b"{}", {"Content-Type": "application/json"}, 415, "send a form"),
        (b"", {"Content-Type": ""}, 415, "send a form"),
    ],
    ids=["no photo", "broken photo", "empty", "another field", "broken form", "JSON", "nothing"],
)
def test_rubbish_is_refused_in_one_line(
    address: str, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    kind = {"Content-Type": f"multipart/form-data; boundary={requests.BOUNDARY}"} | headers
    answer = requests.send(address, "POST", "/api/photo", body, kind)
    assert answer.status == status
    assert message in answer.error


@pytest.mark.parametrize(
    ("what", "wish", "message"),
    [
        ("show", b"{", "no JSON: "),
        ("show", b"\xff", "no JSON: "),
        ("show", b"[" * 100_000, "no JSON: "),
        ("show", [], "must be a JSON object"),
        ("show", {"boxs": []}, "no such field 'boxs'; known: boxes, hints"),
        ("show", {"boxes": [[1, 2, 3]]}, r"box 0 is [1, 2, 3]; it must be [x0, y0, x1, y1]"),
        ("show", {"boxes": [[9, 2, 3, 4]]}, "in pixels, with x0 < x1 and y0 < y1"),
        ("show", {"boxes": [[0, 0, 1 + n, 1] for n in range(65)]}, "65 boxes; at most 64"),
        ("show", {"hints": [{"x": 80, "y": 1, "rgb": "#ffffff"}]}, "x 80 lies outside the photo, which is 80 px wide"),
        ("show", {"hints": [{"x": 1, "y": 1, "rgb": "red"}]}, "rgb is 'red'"),
        ("show", {"hints": [{"object": 0, "rgb": "#ffffff"}]}, "no object 0 in this photo"),
        ("show", {"vivid": 2}, "vivid 2"),
        ("show", {"vivid": "much"}, "vivid is 'much'; it must be a number"),
        ("show", {"saturation": -1}, "saturation -1"),
        ("show", b'{"vivid": NaN}', "NaN is no JSON number"),
        ("download", {"format": "bmp"}, "format 'bmp': must be png, jpeg, webp, tiff, tiff16"),
        (
            "download",
            {"format": "tiff16"},
            "format tiff16: the page computes pictures of 8 bits; use jaxcolor colorize --format tiff16",
        ),
        ("palette", {}, "at is None; it must be"),
        ("palette", {"at": {"x": 1}}, "at is {'x': 1}; it must be"),
        ("samples", {"count": 1000}, "1000 samples of seed 0: 1 to 6"),
        ("samples", {"seed": 0.5}, "seed is 0.5; it must be a whole number"),
    ],
)
def test_wishes_that_cannot_be_met(address: str, key: str, what: str, wish: Any, message: str) -> None:
    answer = requests.ask(address, key, what, wish)
    assert answer.status == 422
    assert message in answer.error


def test_what_is_too_large_is_refused(address: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    most = limits.UPLOAD_BYTES + (1 << 20)
    claimed = {"Content-Length": str(most), "Content-Type": "multipart/form-data; boundary=x"}
    answer = requests.send(address, "POST", "/api/photo", None, claimed)
    assert (answer.status, answer.error) == (413, "larger than 64 MiB, which is the most that is taken")
    assert requests.ask(address, key, "show", b" " * (limits.JSON_BYTES + 1)).status == 413
    # Without a length it is counted as it comes.
    chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    head = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n'
    status = chunked(address, [b"%x\r\n%b\r\n" % (len(head), head), *[chunk] * (most >> 16), b"0\r\n\r\n"])
    assert status == 413


def chunked(address: str, parts: list[bytes]) -> int:
    import socket
    from urllib.parse import urlsplit

    host, port = urlsplit(address).netloc.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"POST /api/photo HTTP/1.1\r\nHost: {host}:{port}\r\nTransfer-Encoding: chunked\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode()
        )
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            pass  # it is closed as soon as there is too much
        return int(connection.recv(100).split()[1])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "example.org"}, 421),
        ({"Host": "127.0.0.1.example.org:80"}, 421),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 200),
    ],
)
def test_requests_of_other_sites_are_refused(address: str, headers: dict[str, str], status: int) -> None:
    answer = requests.send(address, "GET", "/api/about", headers=headers)
    assert answer.status == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    if status != 200:
        assert answer.error


def test_a_link_to_the_page_may_stand_anywhere(address: str) -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}
    assert requests.send(address, "GET", "/", headers=cross).status == 200
    assert requests.send(address, "POST", "/", headers=cross).status == 403


def test_forms_of_other_types_are_no_wishes(address: str, key: str) -> None:
    answer = requests.ask(address, key, "show", {}, {"Content-Type": "text/plain"})
    assert (answer.status, answer.error) == (415, "send JSON (content-type: application/json)")


def test_too_many_waiting_requests_are_sent_away(colorizer: Colorizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITING", 2)
    service, hold = Service(colorizer), threading.Event()

    async def crowd() -> list[Any]:
        waiting = [asyncio.create_task(service.run(hold.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        try:
            with pytest.raises(BusyError, match="2 requests wait already"):
                await service.run(hold.wait)
        finally:
            hold.set()
        return await asyncio.gather(*waiting)

    assert asyncio.run(crowd()) == [True, True]
    assert service.waiting == 0
    service.close()


def test_many_clients_at_once_lose_nothing(colorizer: Colorizer, photo: np.ndarray) -> None:
    """200 requests from 8 clients, a fifth of them bad: all are answered rightly, and memory does not grow."""
    good, bad = encoded(photo), encoded(photo)[:300]
    expected = {x: colorizer(photo, hints=[native_hint({**RED, "x": x})], vivid=0) for x in range(4)}

    def client(number: int) -> list[tuple[int, bool]]:
        found = []
        for turn in range(5):
            if (number + turn) % 5 == 0:
                found.append((requests.post_photo(url, bad).status, True))
                found.extend((requests.send(url, "GET", "/healthz").status, True) for _ in range(4))
                continue
            added = requests.post_photo(url, good)
            key, x = added.json["id"], turn % 4
            wish = {"hints": [{**RED, "x": x}], "vivid": 0}
            found.append((added.status, True))
            found.append((requests.ask(url, key, "show", wish).status, True))
            saved = requests.ask(url, key, "download", wish)
            found.append((saved.status, bool(np.abs(opened(saved.body).astype(int) - expected[x]).max() <= 1)))
            found.append((requests.ask(url, key, "palette", {"at": {"x": 99, "y": 1}}).status, True))
            found.append((requests.send(url, "DELETE", f"/api/photo/{key}").status, True))
        return found

    service = Service(colorizer)
    with running(service) as url, ThreadPoolExecutor(8) as clients:
        client(1)  # compiles
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answers = [answer for found in clients.map(client, range(8)) for answer in found]
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(answers) == 200
    assert all(right for _, right in answers)
    counts = {status: [s for s, _ in answers].count(status) for status in {s for s, _ in answers}}
    assert counts == {201: 32, 200: 96, 204: 32, 422: 40}
    assert len(service.engine.uploads) == 0
    assert after - before < 60_000  # kilobytes


def test_a_session_is_a_hints_file(tmp_path: Path, photo: np.ndarray, colorizer: Colorizer) -> None:
    weights, old = tmp_path / "weights.safetensors", tmp_path / "in" / "old.png"
    native.save(weights, MODEL, small.variables(MODEL))
    old.parent.mkdir()
    old.write_bytes(encoded(photo))
    session = tmp_path / "old.hints.json"
    session.write_text(
        '{"old.png": {"boxes": [[5, 4, 40, 50]], "hints": [{"object": 0, "rgb": "#2040c0"}], "vivid": 0.5}}'
    )
    read = read_hints(session)["old.png"]
    command = ["colorize", str(old), "-w", str(weights), "-o", str(tmp_path / "out"), "--hints", str(session)]
    assert main(command) == 0
    expected = colorizer(photo, read.boxes, hints=read.hints, vivid=0.5)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "old.png")), expected)
    assert main([*command, "--force", "--vivid", "0"]) == 0
    expected = colorizer(photo, read.boxes, hints=read.hints, vivid=0)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "old.png")), expected)


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["web"]) == 1
    said = capsys.readouterr().err
    assert said == "jaxcolor web: the page needs packages that are not installed: pip install '.[web]' in a clone\n"


def test_weights_of_the_package_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not as files of these names, which would be another error."""
    monkeypatch.setattr(packaged, "folder", lambda: tmp_path)
    for name in packaged.NAMES:
        assert main(["web", "--weights", name, "--no-browser", "--port=0"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"jaxcolor web: the weights {name!r} are not in this installation")


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with bound(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"^port {port}: Address already in use; give another one with --port$"):
            bound(port)
    with pytest.raises(SystemExit):
        main(["web", "--port", "70000"])
    assert "70000 is no port" in capsys.readouterr().err
