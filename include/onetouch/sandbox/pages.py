"""What people would see: a rep's task list and the Slack channels."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from onetouch.sandbox.store import Store


class Pages:
    """The pages over a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def routes(self) -> list[Route]:
        """The routes of the pages."""
        return [Route("/", self.tasks)]

    async def tasks(self, request: Request) -> Response:
        """A rep's task list."""
        return PlainTextResponse("tasks")
