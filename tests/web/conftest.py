"""A small model, a service over it, and a server that runs."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxcolor import Colorizer
from jaxcolor.models import networks
from jaxcolor.web.service import Service
from tests import small

MODEL = replace(small.TWO, outputs=("regression", "classes"))


@pytest.fixture(scope="session")
def colorizer() -> Colorizer:
    """All three networks, with a class head."""
    return Colorizer(MODEL, small.variables(MODEL))


@pytest.fixture(scope="session")
def full_only() -> Colorizer:
    variables: networks.Variables = {"full": small.variables(small.MODEL)["full"]}
    return Colorizer(small.MODEL, variables)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """Larger than the preview of it."""
    return small.gray(small.photo(np.random.default_rng(3), 60, 80))


@contextmanager
def running(service: Service) -> Iterator[str]:
    """The address of a server that runs in a thread of this process."""
    import uvicorn

    from jaxcolor.web.app import create_app
    from jaxcolor.web.serve import bound

    with bound(0) as listening:
        server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(colorizer: Colorizer) -> Iterator[str]:
    with running(Service(colorizer)) as url:
        yield url


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def write_photo(path: Path, rgb: np.ndarray) -> Path:
    from PIL import Image

    Image.fromarray(rgb).save(path)
    return path
