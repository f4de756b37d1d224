"""Variables, made once."""

from typing import Any

import pytest

from tests import small
from tests.evaluation.batches import MODEL


@pytest.fixture(scope="package")
def variables() -> dict[str, Any]:
    return small.variables(MODEL)
