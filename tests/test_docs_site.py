"""The documentation's site, built as `make docs` does."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sphinx", "myst_parser", "furo")), reason="needs Sphinx"
)


class Page(HTMLParser):
    """What a page loads, where its links lead, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a":
            self.links.add(found.get("href", ""))
        else:
            self.loaded |= {found[name] for name in ("src", "href") if name in found and tag != "base"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without warnings."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    command = re.search(r"^\t\$\(BIN\)/python (-m sphinx .*) docs build/site$", makefile, re.MULTILINE)
    assert command is not None
    assert "--fail-on-warning" in command[1]
    folder = tmp_path_factory.mktemp("docs")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    arguments = [*command[1].split(), "--quiet", "-d", str(folder / "doctrees"), str(DOCS), str(folder / "site")]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {path: Page(path) for path in site.rglob("*.html")}
    assert len(found) > 30
    return found


def test_every_file_of_docs_is_a_page_in_the_navigation(site: Path, pages: dict[Path, Page]) -> None:
    sources = [path for path in DOCS.rglob("*") if path.suffix in (".md", ".rst")]
    written = {path.relative_to(DOCS).with_suffix(".html") for path in sources}
    linked = {Path(link) for link in pages[site / "index.html"].links}
    assert written - {Path("index.html")} <= linked


def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for link in page.loaded | page.links:
            if re.match(r"https?:|mailto:|data:", link):
                assert link not in page.loaded, f"{path.name} loads {link}"
                continue
            target, _, anchor = unquote(link).partition("#")
            reached = (path.parent / target.partition("?")[0]).resolve() if target else path
            assert reached.is_file(), f"{path.name}: {link}"
            if anchor and reached in pages:
                assert anchor in pages[reached].anchors, f"{path.name}: {link}"


def test_api_pages_are_made_from_docstrings(site: Path) -> None:
    text = (site / "api" / "coloring.html").read_text(encoding="utf-8")
    for name in ("inference.colorizer.Colorizer.many", "hints.Hint.on_object", "inference.upsample.join"):
        assert f'id="jaxcolor.{name}"' in text
    assert "Each photo at its own size, sRGB of" in text
    assert "Alias for field number" not in text
