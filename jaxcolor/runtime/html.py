"""HTML pages from templates: one set-up of Jinja for all of them."""

from __future__ import annotations

import jinja2


def environment(package: str) -> jinja2.Environment:
    """Jinja over the folder ``templates`` of a package; text is escaped, and an unknown name is an error.

    Args:
      package: dotted name, ``jaxcolor.study``.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
