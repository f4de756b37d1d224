"""Instance-aware image colorization (Su, Chu, Huang, CVPR 2020) in JAX and Flax."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxcolor.hints import Hint
    from jaxcolor.inference.colorizer import Colorizer

__version__ = "0.1.0"
__all__ = ["Colorizer", "Hint", "__version__"]

_PUBLIC = {"Colorizer": "jaxcolor.inference.colorizer", "Hint": "jaxcolor.hints"}
# Imported when they are asked for: `import jaxcolor` alone loads no JAX, starts no backend and parses no flags.


def __getattr__(name: str) -> Any:
    """The public names, from where they are defined."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
