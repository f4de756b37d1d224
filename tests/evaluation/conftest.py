"""Only correctness counts here: compile fast rather than well, and make the variables once."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests import small
from tests.evaluation.batches import MODEL


@pytest.fixture(scope="package", autouse=True)
def _fast_compiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with small.quick_compiles(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope="package")
def variables() -> dict[str, Any]:
    return small.variables(MODEL)
