"""One loopback server: the four APIs, the pages, and the tooling that sets time, data and faults."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import unquote_to_bytes

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from onetouch.sandbox import audience, faults, hubspot, tooling
from onetouch.sandbox.amplitude import Exports, export
from onetouch.sandbox.api import Answer
from onetouch.sandbox.fields import build_org
from onetouch.sandbox.metadata import METADATA, read_metadata
from onetouch.sandbox.pages import Pages
from onetouch.sandbox.salesforce import Salesforce
from onetouch.sandbox.slack import Slack
from onetouch.sandbox.store import Store

_CONNECTIONS: Final[dict[Any, asyncio.BaseTransport]] = {}


class _Protocol(H11Protocol):
    """Keeps each client's connection, so that a fault can cut it without an answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.peer = transport.get_extra_info("peername")
        _CONNECTIONS[self.peer[:2]] = transport
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        _CONNECTIONS.pop(self.peer[:2], None)
        super().connection_lost(exc)


class Faults:
    """Counts every call and injects the planned faults: errors, lost requests, lost answers."""

    def __init__(self, app: ASGIApp, store: Store, salesforce: Salesforce) -> None:
        self.app, self.store, self.salesforce = app, store, salesforce

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path = scope.get("path", "")
        api = faults.api_of(path)
        if scope["type"] != "http" or not api:
            await self.app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        shown = path + (f"?{unquote_to_bytes(query).decode('utf-8', 'replace')}" if query else "")
        fault = faults.of_call(self.store, scope["method"], shown)
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            if "slow" in fault and message["type"] == "http.response.start":
                await asyncio.sleep(fault["slow"])
            if fault.get("drop") == "half" and message["type"] == "http.response.body":
                body = message.get("body", b"")
                await send({**message, "body": body[: len(body) // 2], "more_body": True})
            elif fault.get("drop") != "answer":
                await send(message)

        if fault.get("drop") == "request":
            await self._cut(scope)
        elif "status" in fault:
            await self.app(scope, receive, _unheard) if fault.get("executed") else await _drain(receive)
            body = fault.get("body", "")
            usage = self.salesforce.usage() if api == "salesforce" else {}
            headers = usage | {str(k): str(v) for k, v in fault.get("headers", {}).items()}
            answer: Response = (
                Response(body, fault["status"], headers)
                if isinstance(body, str)
                else JSONResponse(body, fault["status"], headers)
            )
            await answer(scope, receive, watch)
        else:
            await self.app(scope, receive, watch)
            if "drop" in fault:
                await self._cut(scope)
        self.store.count_call(api, scope["method"], faults.pattern(path), status)

    @staticmethod
    async def _cut(scope: Scope) -> None:
        transport = _CONNECTIONS.get(tuple(scope["client"])[:2])
        if transport:
            transport.abort()  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)  # the server notices the cut before it can answer


async def _unheard(message: Message) -> None:
    """What becomes of an answer that another one replaces."""


async def _drain(receive: Receive) -> None:
    more = True
    while more:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)


def build_app(home: Path, exports: Path | None = None) -> Starlette:
    """The application on the state in `home`. Raises MetadataError when include/salesforce cannot be deployed."""
    store = Store(home, build_org(read_metadata(METADATA)))
    salesforce, slack, answers = Salesforce(store), Slack(store), Exports(exports)

    async def token(request: Request) -> Response:
        form = await _fields(request)
        base = _base(request)
        with store.transaction():
            return _json(salesforce.token(form, request.headers.get("authorization", ""), base))

    async def rest(request: Request) -> Response:
        raw = await request.body()
        query = request.scope["query_string"].decode("latin-1")
        raw_path = request.scope["raw_path"].decode("latin-1").partition("?")[0]
        with store.transaction():
            answer = salesforce.request(request.method, raw_path, query, raw, request.headers)
        return _json(answer)

    async def web_api(request: Request) -> Response:
        status, body, headers = slack.request(
            request.path_params["method"],
            await _fields(request),
            request.headers.get("authorization", ""),
            _base(request),
        )
        return JSONResponse(body, status, headers)

    async def upload(request: Request) -> Response:
        content = await request.body()
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            form = await request.form()
            parts = [part for part in form.values() if not isinstance(part, str)]
            content = await parts[0].read() if parts else b""
        status, text = slack.upload(request.path_params["file"], content)
        return PlainTextResponse(text, status)

    async def amplitude(request: Request) -> Response:
        status, text, file = await run_in_threadpool(
            export,
            answers,
            dict(request.query_params),
            request.headers.get("authorization", ""),
            store.now(),
            int(store.setting("export_hours")),
        )
        if file is None:
            return PlainTextResponse(text, status)
        return StreamingResponse(_chunks(file), media_type="application/zip")

    async def unknown(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return PlainTextResponse(getattr(error, "detail", "Internal Server Error"), status)

    anything = ["GET", "POST", "PATCH", "PUT", "DELETE"]
    routes = [
        Route("/services/oauth2/token", token, methods=["POST"]),
        Route("/services/data", rest, methods=anything),
        Route("/services/data/{rest:path}", rest, methods=anything),
        Route("/api/2/export", amplitude),
        Route("/api/{method}", web_api, methods=["GET", "POST"]),
        Route("/upload/v1/{file}", upload, methods=["POST"]),
        *hubspot.routes(store),
        *audience.routes(store),
        *tooling.routes(tooling.Tooling(store, slack)),
        *Pages(store, slack).routes(),
    ]
    middleware = [
        # Only loopback names are accepted, so no page of the internet reaches it by a name that resolves to loopback.
        Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"]),
        Middleware(Faults, store=store, salesforce=salesforce),
    ]
    app = Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: unknown})
    app.state.store = store
    return app


async def _fields(request: Request) -> dict[str, Any]:
    """Query, form or JSON body as one flat dictionary."""
    given: dict[str, Any] = dict(request.query_params)
    kind = request.headers.get("content-type", "")
    if kind.startswith("application/json"):
        try:
            body = json.loads(await request.body() or b"{}")
        except ValueError:
            body = {}
        given |= body if isinstance(body, dict) else {}
    elif request.method == "POST":
        given |= {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    return given


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _json(answer: Answer) -> Response:
    if answer.status == 204:
        return Response(status_code=204, headers=answer.headers)
    if isinstance(answer.body, str):
        return PlainTextResponse(answer.body, answer.status, answer.headers)
    return JSONResponse(answer.body, answer.status, answer.headers)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(1 << 20):
            yield piece


class _Server(uvicorn.Server):
    """Prints one line when it is ready; closes the store when it ends."""

    def __init__(self, config: uvicorn.Config, store: Store, ready: str) -> None:
        super().__init__(config)
        self.store, self.ready = store, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self.ready, flush=True)  # noqa: T201 - the one line a caller waits for

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self.store.db.close()


def make_server(home: Path, port: int, exports: Path | None = None) -> tuple[uvicorn.Server, socket.socket]:
    """The server and its bound socket, not yet running: `server.run([listener])`."""
    app = build_app(home, exports)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        app, http=_Protocol, ws="none", lifespan="off", log_level="warning", access_log=False, timeout_keep_alive=30
    )
    ready = f"onetouch sandbox ready on http://127.0.0.1:{listener.getsockname()[1]}"
    return _Server(config, app.state.store, ready), listener


def serve(home: Path | str, port: int = 8765, exports: Path | str | None = None) -> None:
    """Serves on 127.0.0.1 until stopped. Port 0 takes a free port, which the printed line names.

    Raises MetadataError when include/salesforce cannot be deployed, OSError when the port is taken.
    """
    server, listener = make_server(Path(home), port, Path(exports) if exports else None)
    server.run([listener])
