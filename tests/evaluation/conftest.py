"""Only correctness counts here: compile fast rather than well, and make the variables once."""

from collections.abc import Iterator
from typing import Any

import jax
import pytest

from jaxcolor.models.dual_branch import init
from tests.evaluation.batches import MODEL
from tests.small import quick_compiles


@pytest.fixture(scope="package", autouse=True)
def _fast_compiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with quick_compiles(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope="package")
def variables() -> dict[str, Any]:
    return jax.device_get(init(MODEL, 0))
