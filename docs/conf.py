"""The documentation as a site: `make docs`. Pages are the files of this folder and of ``api/``.

What lies elsewhere in the repository is a page by a file here that includes it. Links stay as they are on disk, and are
made to fit the site when a page is read.
"""

import os
import re
from pathlib import Path

import jax
from sphinx.application import Sphinx
from sphinx.ext.napoleon import GoogleDocstring

import jaxcolor

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

jax.Array.__name__ = "Array"  # else signatures show "jaxlib._jax.Array"

project = "jaxcolor"
author = copyright = "the jaxcolor developers"
release = jaxcolor.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 4
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
toc_object_entries = False  # entries for modules alone: those of functions take a fifth of the time

html_theme = "furo"
html_title = f"jaxcolor {release}"
html_copy_source = False

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "jaxcolor/models/ops/README.md": "ops.md",
}
"""Files elsewhere in the repository, and the page that includes each."""

_LINK = re.compile(r"(?P<text>\[[^\]]*\])\((?P<target>(?![a-z]+:)[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def links_from_docs(text: str, folder: Path) -> str:
    """Relative links of a file in ``folder`` as links of a page in docs/; a folder, which is no page, is its text."""

    def link(match: re.Match[str]) -> str:
        path = (folder / match["target"]).resolve()
        if path.is_dir():
            return match["text"][1:-1]
        if not path.is_relative_to(ROOT):
            return match[0]
        target = PAGES.get(path.relative_to(ROOT).as_posix()) or os.path.relpath(path, DOCS)
        return f"{match['text']}({target}{match['anchor'] or ''})"

    return _LINK.sub(link, text)


def _page_read(app: Sphinx, docname: str, source: list[str]) -> None:
    path = app.env.doc2path(docname)
    if path.suffix == ".md":
        source[0] = links_from_docs(source[0], path.parent)


def _include_read(app: Sphinx, relative: Path, docname: str, content: list[str]) -> None:
    content[0] = links_from_docs(content[0], (DOCS / relative).resolve().parent)


def _docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Google style. Napoleon's own way takes what stands before a colon in an attribute's docstring for its type."""
    if lines and lines[0].startswith("Alias for field number"):  # a field of a NamedTuple without a docstring
        lines.clear()
    kind = "class" if what in ("attribute", "data", "property") else what
    lines[:] = GoogleDocstring(list(lines), what=kind, name=name, obj=obj).lines()


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("source-read", _page_read)
    app.connect("include-read", _include_read)
    app.connect("autodoc-process-docstring", _docstring)
