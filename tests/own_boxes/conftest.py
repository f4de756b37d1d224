"""Programs that compile fast, each once."""

from collections.abc import Iterator

import pytest

from tests import small


@pytest.fixture(scope="session", autouse=True)
def _compile_quickly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with small.quick_compiles(tmp_path_factory.getbasetemp().parent):
        yield
