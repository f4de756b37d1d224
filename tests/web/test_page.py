"""The page in a real browser: a person uploads a photo, steers its colors by mouse or keys, and saves it."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxcolor import Colorizer
from jaxcolor.hints import read_hints
from tests.browser import chromium, complaints
from tests.web import requests
from tests.web.conftest import write_photo
from tests.web.test_app import opened


class Page:
    """What a person does."""

    def __init__(self, driver: Any, address: str, downloads: Path) -> None:
        self.driver = driver
        self.address = address
        self.downloads = downloads

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def until(self, holds: Callable[[], Any], what: str) -> None:
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end, f"waited for {what}; the page says {self.status!r}"
            time.sleep(0.05)

    @property
    def status(self) -> str:
        return str(self.find("#status").text)

    def settled(self) -> None:
        """The colors are those of what is wanted."""
        script = "return document.querySelector('#stage').classList.contains('waiting')"
        self.until(lambda: not self.driver.execute_script(script), "colors")

    def open(self, photo: Path) -> None:
        self.driver.get(self.address)
        self.until(lambda: self.driver.execute_script("return document.readyState === 'complete'"), "the page")
        self.find("#file").send_keys(str(photo))
        self.until(lambda: self.status.startswith("Colored in"), "colors")
        self.settled()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """From one place of the photo to another, in shares of its sides."""
        self._move(*start).click_and_hold().perform()
        self._move(*end).release().perform()
        self.settled()

    def click(self, x: float, y: float) -> None:
        self._move(x, y).click().perform()

    def _move(self, x: float, y: float) -> Any:
        from selenium.webdriver.common.action_chains import ActionChains

        stage = self.find("#stage")
        width, height = stage.rect["width"], stage.rect["height"]
        to = round((x - 0.5) * width), round((y - 0.5) * height)
        return ActionChains(self.driver, duration=20).move_to_element_with_offset(stage, *to)

    def mode(self, name: str) -> None:
        self.find(f"input[name=mode][value={name}] + span").click()

    def choose(self, number: int) -> str:
        """Take a color of the palette that is open."""
        self.until(lambda: self.all("#swatches button"), "a palette")
        swatch = self.all("#swatches button")[number]
        rgb = str(swatch.get_attribute("data-rgb"))
        swatch.click()
        self.settled()
        return rgb

    def shown(self) -> np.ndarray:
        """The pixels of the colored picture."""
        script = """
            const image = document.querySelector('#colored'), canvas = document.createElement('canvas');
            canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            return [canvas.height, canvas.width, [...context.getImageData(0, 0, canvas.width, canvas.height).data]];
        """
        height, width, data = self.driver.execute_script(script)
        return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]

    def saved(self, button: str, name: str) -> bytes:
        self.find(button).click()
        file = self.downloads / name
        self.until(file.exists, name)
        return file.read_bytes()

    def session(self) -> Any:
        data = self.saved("#save-session", "old.hints.json")
        (self.downloads / "old.hints.json").unlink()
        return json.loads(data)["old.png"]


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def driver(downloads: Path) -> Iterator[Any]:
    with chromium(downloads=downloads) as browser:
        yield browser


@pytest.fixture
def page(driver: Any, address: str, downloads: Path, photo: np.ndarray) -> Iterator[Page]:
    opened_page = Page(driver, address, downloads)
    for left in downloads.iterdir():
        left.unlink()
    opened_page.open(write_photo(downloads / "old.png", photo))
    yield opened_page
    assert complaints(driver) == []


def test_a_photo_is_steered_and_saved(page: Page, photo: np.ndarray, colorizer: Colorizer) -> None:
    first = page.shown()
    assert np.abs(first.astype(int) - photo).max() > 5
    page.mode("objects")
    page.drag((0.2, 0.2), (0.6, 0.7))
    page.drag((0.4, 0.4), (0.5, 0.5))  # moved
    (x0, y0, x1, y1) = page.session()["boxes"][0]
    assert (x0, y0) == (pytest.approx(0.3 * 80, abs=1), pytest.approx(0.3 * 60, abs=1))
    assert (x1 - x0, y1 - y0) == (pytest.approx(0.4 * 80, abs=1), pytest.approx(0.5 * 60, abs=1))
    page.mode("color")
    page.click(0.5, 0.5)
    rgb = page.choose(-1)
    steered = page.shown()
    assert np.abs(steered.astype(int) - first).max() > 5
    page.click(0.9, 0.1)
    point = page.choose(0)
    session = page.session()
    assert session["hints"][0] == {"object": 0, "rgb": rgb}
    assert session["hints"][1]["rgb"] == point
    assert session["hints"][1]["x"] == pytest.approx(0.9 * 80, abs=1)
    data = page.saved("#download", "old.color.png")
    added = requests.post_photo(page.address, (page.downloads / "old.png").read_bytes())
    assert requests.ask(page.address, added.json["id"], "download", session).body == data
    file = page.downloads / "session.json"
    file.write_text(json.dumps({"old.png": session}))
    read = read_hints(file)["old.png"]
    expected = colorizer(photo, read.boxes, hints=read.hints, vivid=read.vivid)
    assert np.abs(opened(data).astype(int) - expected).max() <= 1


def test_undo_and_redo(page: Page) -> None:
    first = page.shown()
    assert not page.find("#undo").is_enabled()
    page.click(0.3, 0.3)
    page.choose(-1)
    changed = page.shown()
    page.drag((0.3, 0.3), (0.7, 0.7))  # the dot
    moved = page.session()["hints"][0]
    assert (moved["x"], moved["y"]) == (pytest.approx(56, abs=1), pytest.approx(42, abs=1))
    for button, expected in (("#undo", changed), ("#undo", first), ("#redo", changed)):
        page.find(button).click()
        page.settled()
        assert np.array_equal(page.shown(), expected)
    page.find("#hints li button:last-child").click()
    page.settled()
    assert np.array_equal(page.shown(), first)


def test_everything_by_keys(page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    stage = page.find("#stage")
    stage.send_keys(Keys.ARROW_LEFT, Keys.ARROW_UP, Keys.ENTER)
    page.choose(0)
    hint = page.session()["hints"][0]
    assert (hint["x"], hint["y"]) == (pytest.approx(39.2, abs=0.2), pytest.approx(29.2, abs=0.2))
    page.find(".dot").send_keys(Keys.ARROW_RIGHT)
    page.settled()
    assert page.session()["hints"][0]["x"] == pytest.approx(40, abs=0.2)
    page.find("#add-box").click()
    page.settled()
    box = page.driver.switch_to.active_element
    assert "Object 1" in box.get_attribute("aria-label")
    box.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.SHIFT, Keys.ARROW_LEFT)
    page.settled()
    assert page.session()["boxes"] == [[21, 16, 60, 46]]
    page.find(".box").send_keys(Keys.DELETE)
    page.find(".dot").send_keys(Keys.DELETE)
    page.settled()
    assert page.session()["boxes"] == page.session()["hints"] == []


def test_sliders(page: Page) -> None:
    script = "const s = arguments[0]; s.value = arguments[1]; s.dispatchEvent(new Event('input'))"
    first = page.shown()
    page.driver.execute_script(script, page.find("#vivid"), "1")
    page.settled()
    assert np.abs(page.shown().astype(int) - first).max() > 3
    assert page.session()["vivid"] == 1
    page.driver.execute_script(script, page.find("#wipe"), "40")
    clip = page.driver.execute_script("return getComputedStyle(document.querySelector('#gray')).clipPath")
    assert "40%" in clip or "60%" in clip


def test_other_versions_can_be_used(page: Page) -> None:
    page.find("#sample").click()
    page.until(lambda: page.all("#samples button"), "other versions")
    versions = page.all("#samples button")
    assert len(versions) > 1
    before = page.shown()
    versions[-1].click()
    page.settled()
    assert len(page.session()["hints"]) > 0
    assert np.abs(page.shown().astype(int) - before).max() > 3


def test_a_session_is_opened_again(page: Page) -> None:
    before = page.shown()
    file = page.downloads / "s.json"
    session = {"boxes": [[5, 4, 40, 50]], "hints": [{"object": 0, "rgb": [192, 32, 32]}], "vivid": 0.25}
    file.write_text(json.dumps({"old": session}))
    page.find("#session").send_keys(str(file))
    page.until(lambda: page.all("#hints li"), "hints")
    page.settled()
    assert page.session() == {**session, "hints": [{"object": 0, "rgb": "#c02020"}]}
    assert np.abs(page.shown().astype(int) - before).max() > 3
    file.write_text(json.dumps({"other.png": session}))
    page.find("#session").send_keys(str(file))
    page.until(lambda: "it does not name old.png" in page.status, "an error")


def test_a_photo_that_the_server_forgot_is_sent_again(page: Page) -> None:
    keys = page.driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    key = next(name.split("/")[-2] for name in keys if name.endswith("/show"))
    assert requests.send(page.address, "DELETE", f"/api/photo/{key}").status == 204
    page.click(0.3, 0.3)
    page.choose(0)
    assert page.status.startswith("Colored in")
    # The browser's own note of the answer 404.
    assert all("404" in line for line in complaints(page.driver))


def test_what_is_no_photo_is_refused_by_name(driver: Any, address: str, tmp_path: Path) -> None:
    page = Page(driver, address, tmp_path)
    driver.get(address)
    (tmp_path / "notes.jpg").write_text("no photo")
    page.find("#file").send_keys(str(tmp_path / "notes.jpg"))
    page.until(lambda: "cannot identify image file" in page.find("#empty").text, "an error")
    assert all("422" in line for line in complaints(driver))


def test_it_fits_a_phone_and_every_control_has_a_name(page: Page) -> None:
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= 360
        assert page.find("#panel").rect["y"] > page.find("#stage").rect["y"]
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.click(0.3, 0.3)
    page.until(lambda: page.all("#swatches button"), "a palette")
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = [
        n for n in tree if n.get("role", {}).get("value") in ("button", "slider", "radio", "checkbox", "combobox")
    ]
    assert len(controls) > 10
    assert all(node["name"]["value"] for node in controls)
    page.find("#palette button[value=cancel]").click()


def test_it_is_dark_where_that_is_wanted(page: Page) -> None:
    def background() -> str:
        return str(page.driver.execute_script("return getComputedStyle(document.body).backgroundColor"))

    light = background()
    wanted = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    try:
        assert background() != light
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_tiff_is_shown_though_browsers_do_not(page: Page, photo: np.ndarray) -> None:
    file = page.downloads / "old16.tif"
    Image.fromarray(photo[..., 0].astype(np.uint16) * 257).save(file)
    page.open(file)
    assert np.abs(page.shown().astype(int) - photo).max() > 5
