"""The routes. Answers of ``/api`` are JSON or pictures; what cannot be done is ``{"error": "one line"}``."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import jaxcolor
from jaxcolor.runtime.errors import UserError, one_line
from jaxcolor.web import limits
from jaxcolor.web.guard import Guard
from jaxcolor.web.service import BusyError, File, Service, Wish, parse_wish
from jaxcolor.web.uploads import GoneError

_PAGE = {"/": ("page.html", "text/html"), "/page.css": ("page.css", "text/css")} | {
    f"/{name}": (name, "text/javascript") for name in ("page.js", "stage.js", "server.js")
}
_FORM_BYTES = 64 << 10
"""Around the photo in its form."""
_UPLOADS = 4
"""Photos that are received at a time; further ones wait before they are read, so that memory is bounded."""

Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(service: Service) -> Starlette:
    """The application; it closes ``service`` when it shuts down."""

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok", "version": jaxcolor.__version__, "waiting": service.waiting})

    async def about(request: Request) -> Response:
        return JSONResponse(service.about())

    uploads = asyncio.Semaphore(_UPLOADS)

    async def add(request: Request) -> Response:
        async with uploads:
            name, data = await _photo(request)
            if request.headers.get("accept", "").startswith("image/"):
                return _file(await service.run(service.color, name, data))
            added = await service.run(service.add, name, data)
        return JSONResponse(added, status_code=201, headers={"Location": f"/api/photo/{added['id']}"})

    async def forget(request: Request) -> Response:
        await service.run(service.engine.forget, request.path_params["key"])
        return Response(status_code=204)

    def answer(work: Callable[[str, Wish], File | dict[str, Any]]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            wish = parse_wish(await _json_body(request))
            found = await service.run(work, request.path_params["key"], wish)
            return _file(found) if isinstance(found, File) else JSONResponse(found)

        return endpoint

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        service.warm_up()
        yield
        service.close()

    return Starlette(
        routes=[
            *(Route(path, _page_file(*file)) for path, file in _PAGE.items()),
            Route("/healthz", healthz),
            Route("/api/about", about),
            Route("/api/photo", add, methods=["POST"]),
            Route("/api/photo/{key:str}", forget, methods=["DELETE"]),
            Route("/api/photo/{key:str}/show", answer(service.show), methods=["POST"]),
            Route("/api/photo/{key:str}/palette", answer(service.palette), methods=["POST"]),
            Route("/api/photo/{key:str}/samples", answer(service.samples), methods=["POST"]),
            Route("/api/photo/{key:str}/download", answer(service.download), methods=["POST"]),
        ],
        middleware=[Middleware(Guard, most_bytes=limits.UPLOAD_BYTES + _FORM_BYTES)],
        exception_handlers={
            HTTPException: _on_http,
            UserError: _on_user,
            ClientDisconnect: _on_gone,
            Exception: _on_bug,
        },
        lifespan=lifespan,
    )


def _page_file(name: str, media_type: str) -> Endpoint:
    content = (files(__package__) / "page" / name).read_bytes()

    async def endpoint(request: Request) -> Response:
        return Response(content, media_type=f"{media_type}; charset=utf-8")

    return endpoint


async def _photo(request: Request) -> tuple[str, bytes]:
    """Name and content of the file in the form field ``photo``."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(415, "send a form (multipart/form-data) with the photo in its field 'photo'")
    async with request.form(max_files=1, max_fields=8) as form:
        photo = form.get("photo")
        if not isinstance(photo, UploadFile):
            raise HTTPException(400, "there is no file in the form field 'photo'")
        data = await photo.read()
        if not data:
            raise HTTPException(400, "the file in the form field 'photo' is empty")
        return photo.filename or "photo", data


async def _json_body(request: Request) -> bytes:
    """The body of a request that only a page of this server, or a program, can send: forms have other types."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "send JSON (content-type: application/json)")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limits.JSON_BYTES:
            raise HTTPException(413, f"more JSON than {limits.JSON_BYTES >> 20} MiB")
    return bytes(body)


def _file(file: File) -> Response:
    quoted = urllib.parse.quote(file.name)
    disposition = f"attachment; filename*=UTF-8''{quoted}"
    return Response(file.data, media_type=file.media_type, headers={"Content-Disposition": disposition})


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": text}, status_code=status, headers=headers)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, error.headers)


async def _on_user(request: Request, error: Exception) -> Response:
    if isinstance(error, BusyError):
        return _error(503, one_line(error), {"Retry-After": "1"})
    return _error(404 if isinstance(error, GoneError) else 422, one_line(error))


async def _on_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


async def _on_bug(request: Request, error: Exception) -> Response:
    return _error(500, "something went wrong here; the terminal in which jaxcolor web runs says what")
