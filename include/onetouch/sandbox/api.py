"""One call of the Salesforce API and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ApiError(Exception):
    """A refused request: HTTP status, errorCode, message."""

    def __init__(self, status: int, code: str, message: str, *fields: str) -> None:
        super().__init__(message)
        self.status = status
        error: dict[str, Any] = {"message": message, "errorCode": code}
        self.body = [error | ({"fields": list(fields)} if fields else {})]


@dataclass
class Answer:
    """The answer to a call: status, JSON body (or text), headers."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One REST call below /services/data/vXX.0/."""

    method: str
    version: str
    path: str
    query: Mapping[str, str]
    body: Any
    headers: Mapping[str, str]

    @property
    def root(self) -> str:
        """The path of the call's API version, for links in answers."""
        return f"/services/data/{self.version}"

    def only(self, *methods: str) -> None:
        """Raises ApiError on a method that is not one of these."""
        if self.method not in methods:
            message = f"HTTP Method '{self.method}' not allowed. Allowed are {','.join(methods)}"
            raise ApiError(405, "METHOD_NOT_ALLOWED", message)


def not_found() -> ApiError:
    """The error of an unknown address."""
    return ApiError(404, "NOT_FOUND", "The requested resource does not exist")
