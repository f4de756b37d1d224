import jinja2
import pytest

from jaxcolor.runtime.html import environment


def test_text_is_escaped_and_unknown_names_are_errors() -> None:
    pages = environment("jaxcolor.study")
    assert pages.get_template("study.html")
    assert pages.from_string("{{ text }}").render(text="<b> & 'c'") == "&lt;b&gt; &amp; &#39;c&#39;"
    with pytest.raises(jinja2.UndefinedError, match="'text' is undefined"):
        pages.from_string("{{ text }}").render()
