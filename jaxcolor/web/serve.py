"""Running the page's server."""

from __future__ import annotations

import socket
import sys
import threading
import webbrowser

import uvicorn

from jaxcolor.inference.colorizer import Colorizer
from jaxcolor.runtime.errors import UserError
from jaxcolor.web.app import create_app
from jaxcolor.web.service import Service

HOST = "127.0.0.1"
"""The only address that is served; over a network go through ssh -L."""


def serve(colorizer: Colorizer, weights: str, port: int, open_browser: bool) -> None:
    """Serve the page until it is interrupted.

    Args:
      colorizer: whose weights are used.
      weights: their name, for the metadata of results.
      port: 0: a free one.
      open_browser: show the page in the browser.

    Raises:
      UserError: the port is taken.
    """
    with bound(port) as listening:
        url = f"http://{HOST}:{listening.getsockname()[1]}/"
        print(f"jaxcolor web: {url} (Ctrl-C ends it)", flush=True)
        app = create_app(Service(colorizer, weights))
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on")
        server = uvicorn.Server(config)
        if open_browser:
            threading.Timer(0.5, webbrowser.open, [url]).start()
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            print("jaxcolor web: ended", file=sys.stderr)


def bound(port: int) -> socket.socket:
    """A socket that listens at a port of this machine.

    Raises:
      UserError: the port is taken, or may not be used.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise UserError(f"port {port}: {error.strerror or error}; give another one with --port") from error
    return listening
