"""Only correctness counts here: compile fast rather than well, and make the variables once."""

from collections.abc import Iterator
from typing import Any

import jax
import pytest

from jaxcolor.models.dual_branch import init
from tests.evaluation.batches import MODEL


@pytest.fixture(scope="package", autouse=True)
def _fast_compiles() -> Iterator[None]:
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="package")
def variables() -> dict[str, Any]:
    return jax.device_get(init(MODEL, 0))
