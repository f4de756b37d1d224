"""What ``import jaxcolor`` does."""

import subprocess
import sys

import pytest

import jaxcolor


def test_importing_starts_nothing() -> None:
    """A backend that there is not: whatever started one would fail."""
    lines = [
        "import sys, jaxcolor",
        "assert 'jax' not in sys.modules",
        "from jaxcolor import Colorizer, Hint",
        "assert 'jax' not in sys.modules or not sys.modules['jax']._src.xla_bridge.backends_are_initialized()",
        "from absl import flags",
        "assert not flags.FLAGS.is_parsed()",
        "print(Colorizer.__module__, Hint.__module__)",
    ]
    environment = {"JAX_PLATFORMS": "none_such", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("jaxcolor.inference.colorizer jaxcolor.hints\n", "")


def test_public_names() -> None:
    assert {"Colorizer", "Hint"} <= set(dir(jaxcolor))
    assert all(hasattr(jaxcolor, name) for name in jaxcolor.__all__)
    with pytest.raises(AttributeError, match="module 'jaxcolor' has no attribute 'Colouriser'"):
        _ = jaxcolor.Colouriser
