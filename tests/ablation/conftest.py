"""Only correctness counts here."""

from collections.abc import Iterator

import pytest

from tests.small import quick_compiles


@pytest.fixture(scope="package", autouse=True)
def _quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with quick_compiles(tmp_path_factory.getbasetemp()):
        yield
