"""Whole sessions in a real browser, from files without a server."""

import json
import time

import pytest

from jaxcolor.cli import main
from jaxcolor.study.answers import read_session
from jaxcolor.study.plan import draw, seed_of
from tests.browser import chromium, complaints
from tests.study.people import deck, study

READY = "return typeof view !== 'undefined' && view !== null"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("session")
    return root, study(root, ("red", "green", "blue"), photos=3, pairs_per_person=6, repeats=2, catches=1)


@pytest.fixture(scope="module")
def browser(made):
    (made[0] / "downloads").mkdir()
    with chromium(downloads=made[0] / "downloads") as driver:
        yield driver


class Page:
    """A session at the keyboard and the mouse."""

    def __init__(self, driver, made):
        self.driver, (self.root, self.key) = driver, made
        self.address = (self.root / "study" / "participants" / "index.html").as_uri()

    def wait(self, script):
        for _ in range(1000):
            if self.driver.execute_script(script):
                return
            time.sleep(0.02)
        raise AssertionError(f"never true: {script}")

    def find(self, name):
        return self.driver.find_element("id", name)

    def press(self, key):
        self.driver.find_element("tag name", "body").send_keys(key)

    def screen(self):
        return self.driver.execute_script("return document.querySelector('main:not([hidden])').id")

    def open(self, address, screen):
        """Until that screen is shown: what was kept reaches the process of another page a moment later."""
        for _ in range(50):
            self.driver.get(address)
            if self.screen() == screen:
                return
            time.sleep(0.1)
        raise AssertionError(f"{address}: shows {self.screen()}, not {screen}")

    def start(self, participant, kept=False):
        """Begin, or with ``kept`` come back to a session that is finished and that this page can read by now."""
        self.driver.get(self.address)
        if kept:
            self.wait(f"return JSON.parse(store.get(`${{PREFIX}}:of:{participant}`))?.finished")
        self.find("participant").send_keys(participant)
        self.find("consent").click()
        self.find("begin").click()

    def shown(self):
        """Number of the trial, and the codes of the pictures that are seen left and right."""
        self.wait(READY)
        sources = [self.find(side).find_element("tag name", "img").get_attribute("src") for side in ("left", "right")]
        assert self.driver.execute_script(
            "return [...document.querySelectorAll('#stage img')].every((i) => i.complete && i.naturalWidth && i.width)"
        )
        number = int(self.find("progress").text.split()[0])
        return number, *(source.rsplit("/", 1)[1].removesuffix(".png") for source in sources)


@pytest.fixture
def page(browser, made):
    return Page(browser, made)


def test_a_whole_session(page, made, capsys):
    from selenium.webdriver.common.keys import Keys

    root, key = made
    trials = draw(key.deck, "p-1")
    page.driver.get(page.address)
    assert page.screen() == "start"
    page.find("participant").send_keys("p 1")
    page.find("begin").click()  # neither a name that may be, nor consent
    assert page.screen() == "start"
    page.find("consent").click()
    page.find("begin").click()
    assert page.screen() == "start"
    page.find("participant").clear()
    page.find("participant").send_keys("p-1")
    page.find("participant").send_keys(Keys.ENTER)
    assert page.shown() == (1, trials[0].left, trials[0].right)
    assert page.find("reference").is_displayed()
    assert page.find("back").get_attribute("disabled")

    wishes = ["left", "right", "right", "left", "left", "right", "right", "left", "right"]
    ways = [Keys.ARROW_LEFT, "2", Keys.ARROW_RIGHT, "1", "click", "click", Keys.ARROW_RIGHT, "1", "2"]
    for i, (wish, way) in enumerate(zip(wishes, ways, strict=True)):
        assert page.shown() == (i + 1, trials[i].left, trials[i].right)
        if i == 2:  # the answer before was wrong: back, and once more
            page.press(Keys.BACKSPACE)
            assert page.shown() == (2, trials[1].left, trials[1].right)
            page.press("1")
            assert page.shown()[0] == 3
            page.find("back").click()
            assert page.shown()[0] == 2
            page.press("2")
            assert page.shown()[0] == 3
        if i == 5:  # what was answered is still there
            page.open(page.driver.current_url, "trial")
            assert page.shown() == (6, trials[5].left, trials[5].right)
            assert page.find("notice").text == "Welcome back: you go on where you left."
        page.find(wish).click() if way == "click" else page.press(way)
    page.wait("return !document.getElementById('end').hidden")
    page.open(page.driver.current_url, "end")
    page.find("download").click()
    file = root / "downloads" / "answers_p-1.json"
    for _ in range(1000):
        if file.exists():
            break
        time.sleep(0.02)
    assert complaints(page.driver) == []

    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["seed"] == seed_of(key.deck.study, "p-1")
    assert record["reloads"] == 2
    assert record["storage"] == "localStorage"
    assert record["started"] < record["trials"][0]["shown"] < record["trials"][0]["answered"] < record["finished"]
    assert [t["undone"] for t in record["trials"]] == [0, 2, *[0] * 7]
    assert [t["input"] for t in record["trials"]] == ["pointer" if way == "click" else "key" for way in ways]
    assert all(t["picture"] == [48, 36] and t["layout"] == "row" for t in record["trials"])
    session = read_session(file, key)
    assert [a.is_left for a in session.answers] == [wish == "left" for wish in wishes]
    assert sum(a.trial.repeat_of is not None for a in session.answers) == 2
    status = main(
        ["study", "analyse", str(root / "study"), str(root / "downloads"), "-o", str(root / "out"), "--keep-all"]
    )
    assert status == 0
    assert capsys.readouterr().out.startswith("6 comparisons by 1 participants\n")

    page.find("copy").click()
    page.wait("return document.getElementById('copied').textContent !== ''")
    assert json.loads(page.find("text").get_attribute("value")) == record
    page.find("next").click()
    assert page.screen() == "start"
    page.start("p-1", kept=True)  # the same again: finished already
    assert page.screen() == "end"
    page.find("next").click()


def test_two_people_at_one_computer(page, made):
    """The link says whose session it is; nobody's answers are lost or become another's."""
    page.driver.get(page.address)
    page.driver.execute_script("localStorage.clear(); sessionStorage.clear()")

    def opened(participant, screen="start", *, tab=False):
        if tab:
            page.driver.switch_to.new_window("tab")
        page.open(f"{page.address}?participant={participant}" if participant else page.address, screen)
        return page.screen(), page.find("participant").get_attribute("value")

    def kept(**answers):
        """Waits for so many answers of each."""
        for who, count in answers.items():
            page.wait(f"return JSON.parse(store.get(`${{PREFIX}}:of:{who}`))?.trials.length === {count}")

    def answer(count):
        for _ in range(count):
            number = page.shown()[0]
            page.press("1")
            page.wait(f"return session.trials.length === {number}")

    first = page.driver.current_window_handle
    assert opened("p04") == ("start", "p04")
    page.find("consent").click()
    page.find("begin").click()
    answer(2)
    assert opened("p05") == ("start", "p05")  # not the session of p04
    page.find("consent").click()
    page.find("begin").click()
    trials = draw(made[1].deck, "p05")
    assert page.shown() == (1, trials[0].left, trials[0].right)
    answer(1)
    kept(p04=2, p05=1)

    opened("p04", "trial")  # goes on where it was left
    assert page.shown()[0] == 3
    answer(7)
    page.wait("return !document.getElementById('end').hidden")
    opened("p05", "trial")  # a finished one is in nobody's way
    assert page.shown()[0] == 2
    assert opened("p06", tab=True) == ("start", "p06")
    assert opened(None) == ("start", "")
    page.driver.close()
    page.driver.switch_to.window(first)

    opened("p04", "end")  # their answers are still to be had
    assert json.loads(page.find("text").get_attribute("value"))["participant"] == "p04"
    page.find("next").click()
    assert (page.screen(), page.find("participant").get_attribute("value")) == ("start", "")
    page.find("participant").send_keys("p07")  # someone without a link
    page.find("consent").click()
    page.find("begin").click()
    answer(1)
    page.open(page.driver.current_url, "trial")
    assert page.shown()[0] == 2
    kept(p04=9, p05=1, p07=1)
    assert complaints(page.driver) == []
    page.driver.execute_script("localStorage.clear(); sessionStorage.clear()")


def test_draws_what_python_draws(page):
    page.driver.get(page.address)
    decks = [deck(), deck(9, 4, 50, 10, 7), deck(4, 3, 12, 6, 12), deck(1, 2, 1, 1, 1), deck(5, 2, 5, 0, 0, "ähnlich")]
    for one in decks:
        names = [f"p{i}" for i in range(30)]
        script = "return arguments[1].map((name) => draw(arguments[0], name))"
        drawn = page.driver.execute_script(script, one.to_dict(), names)
        assert drawn == [[trial._asdict() for trial in draw(one, name)] for name in names]
        seeds = page.driver.execute_script(
            "return arguments[1].map((n) => seedOf(arguments[0].study, n))", one.to_dict(), names
        )
        assert seeds == [seed_of(one.study, name) for name in names]


@pytest.mark.parametrize(("width", "height", "layout"), [(390, 844, "column"), (844, 390, "row")])
def test_on_a_phone(page, width, height, layout):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.driver.get(page.address)
        page.driver.execute_script("DATA.most_zoom = 40")
        page.driver.execute_script("begin(arguments[0])", f"phone-{layout}")
        page.shown()
        boxes = [page.find(name).rect for name in ("left", "right", "reference", "question")]
        for box in boxes:
            assert box["x"] >= 0
            assert box["y"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= height
        left, right, reference, question = boxes
        assert (left["width"], left["height"]) == (right["width"], right["height"])
        assert reference["y"] >= question["y"] + question["height"]
        assert reference["y"] + reference["height"] <= min(left["y"], right["y"])
        assert reference["height"] > 0.1 * height
        if layout == "column":
            assert right["y"] >= left["y"] + left["height"]
        else:
            assert right["x"] >= left["x"] + left["width"]
        assert complaints(page.driver) == []
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.execute_script("localStorage.clear()")


def test_where_nothing_can_be_kept(page):
    """Storage that throws: the session goes on, says so, and the file tells."""
    page.driver.get(page.address)
    hide = (
        "for (const s of ['localStorage', 'sessionStorage']) Object.defineProperty(window, s, {get() {throw Error()}})"
    )
    script = page.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": hide})
    try:
        page.start("p-2")
        assert page.shown()[0] == 1
        assert page.find("notice").text.startswith("This browser keeps nothing")
        page.press("1")
        assert page.shown()[0] == 2
        assert json.loads(page.driver.execute_script("return answersText()"))["storage"] == "none"
        page.driver.execute_script("session.saved = true")  # leaves without being asked
    finally:
        page.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    assert complaints(page.driver) == []


def test_a_glance_is_no_answer(page):
    page.driver.get(page.address)
    page.driver.execute_script("DATA.least_ms = 100000; begin('p-3')")
    page.shown()
    page.press("1")
    assert page.shown()[0] == 1
    assert page.find("notice").text == "Please look a little longer."
    page.driver.execute_script("localStorage.clear()")


def test_a_picture_that_is_missing_is_told(page, made):
    trial = draw(made[1].deck, "p-4")[0]
    path = made[0] / "study" / "participants" / "pictures" / f"{trial.left}.png"
    kept = path.read_bytes()
    path.unlink()
    try:
        page.driver.get(page.address)
        page.driver.execute_script("begin('p-4')")
        page.wait("return !document.getElementById('broken').hidden")
        assert trial.left in page.find("broken").text
        assert all("ERR_FILE_NOT_FOUND" in told for told in complaints(page.driver))
    finally:
        path.write_bytes(kept)
        page.driver.execute_script("localStorage.clear()")
