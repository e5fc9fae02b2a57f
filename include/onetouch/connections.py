"""Connections to other systems in Airflow's form, read from AIRFLOW_CONN_* variables without Airflow."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


class ConnectionConfigError(ValueError):
    """A connection cannot be used. The message names the connection, the field and the fix, never a value."""


@dataclass(frozen=True)
class Connection:
    """One Airflow connection; `repr` shows neither the password nor the values of the extras."""

    conn_id: str
    host: str | None = None
    login: str | None = None
    password: str | None = None
    schema: str | None = None
    port: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        password = None if self.password is None else "***"
        extra = ", ".join(f"{name!r}: ***" for name in self.extra)
        return (
            f"Connection(conn_id={self.conn_id!r}, host={self.host!r}, login={self.login!r}, "
            f"password={password!r}, schema={self.schema!r}, port={self.port!r}, extra={{{extra}}})"
        )

    def base_url(self, default: str) -> str:
        """The base URL of requests, without a slash at its end (`default` when the connection names no host).

        The host may contain the whole URL, as in Airflow's HTTP connections, or `schema` may give the scheme; without
        either, the scheme is https, or http for a loopback host. Raises ConnectionConfigError unless the URL uses TLS
        or a loopback host.
        """
        if not self.host:
            url = default
        elif "://" in self.host:
            url = self.host if self.port is None else f"{self.host.rstrip('/')}:{self.port}"
        else:
            host = f"[{self.host}]" if ":" in self.host else self.host
            scheme = self.schema or ("http" if _is_loopback(self.host) else "https")
            url = f"{scheme}://{host}" if self.port is None else f"{scheme}://{host}:{self.port}"
        require_tls(url)
        return url.rstrip("/")


def from_environment(conn_id: str, environ: Mapping[str, str]) -> Connection | None:
    """The connection of AIRFLOW_CONN_<ID>, in Airflow's JSON or URI form; None if the variable is not set.

    Raises ConnectionConfigError for a value that has neither form.
    """
    name = f"AIRFLOW_CONN_{conn_id.upper()}"
    value = environ.get(name, "").strip()
    if not value:
        return None
    return _from_json(conn_id, name, value) if value.startswith("{") else _from_uri(conn_id, name, value)


def require_tls(url: str) -> None:
    """Raises ConnectionConfigError unless `url` is https, or http on a loopback address.

    A URL that two parsers may read differently (backslash, blank, control character, user in front of the host) is
    refused as well, because the host that is checked here must be the host that is connected to.
    """
    shown = re.sub(r"//[^/]*@", "//***@", url)
    if re.search(r"[\s\\\x00-\x1f\x7f]", url):
        raise ConnectionConfigError(f"{shown!r}: an address has no blanks, backslashes or control characters")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  reading it raises ValueError for a port out of range
    except ValueError as error:
        raise ConnectionConfigError(f"{shown!r} is not an address; give https://host[:port]") from error
    if not host or parts.username is not None or parts.password is not None:
        raise ConnectionConfigError(f"{shown!r}: give https://host[:port]; user and password have their own fields")
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return
    raise ConnectionConfigError(f"{shown!r} is not encrypted; use https:// (http:// only on a loopback address)")


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _from_json(conn_id: str, name: str, value: str) -> Connection:
    try:
        document = json.loads(value)
    except json.JSONDecodeError as error:
        # `from None`: the chained error would show the document, including the password
        raise ConnectionConfigError(f"{name}: not JSON at character {error.pos}; check quotes and commas") from None
    known = {"conn_type", "description", "host", "login", "password", "schema", "port", "extra"}
    unknown = sorted(set(document) - known)
    if unknown:
        raise ConnectionConfigError(f"{name}: unknown key {', '.join(unknown)}; allowed: {', '.join(sorted(known))}")
    texts = {}
    for key in ("host", "login", "password", "schema"):
        texts[key] = document.get(key)
        if texts[key] is not None and not isinstance(texts[key], str):
            raise ConnectionConfigError(f"{name}: {key} is a {type(texts[key]).__name__}; put it in quotes")
    return Connection(
        conn_id, **texts, port=_port(name, document.get("port")), extra=_extra(name, document.get("extra"))
    )


def _from_uri(conn_id: str, name: str, value: str) -> Connection:
    """Reads a URI as Airflow does: `type://user:password@host:port/schema?extras` with percent-encoded parts.

    A second scheme in the URI (`http://https://host`) belongs to the host.
    """
    if value.count("://") not in (1, 2):
        raise ConnectionConfigError(f"{name}: neither JSON nor a URI; give type://login:password@host:port?extras")
    rest = value.split("://", 1)[1]
    protocol, rest = rest.split("://", 1) if "://" in rest else ("", rest)
    if re.search(r"[@:/]", protocol):
        raise ConnectionConfigError(f"{name}: '://' inside login, password or extras; percent-encode it (%3A%2F%2F)")
    try:
        parts = urlsplit(f"//{rest}")
        port = parts.port
    except ValueError:
        raise ConnectionConfigError(
            f"{name}: host or port is malformed; give type://login:password@host:port"
        ) from None
    host = unquote(parts.hostname or "")
    if "/" in host:  # an encoded URL: urlsplit has lower-cased it, but paths are case-sensitive
        host = unquote(parts.netloc.rpartition("@")[2].partition(":")[0])
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Connection(
        conn_id,
        host=(f"{protocol}://{host}" if protocol and host else host) or None,
        login=_unquoted(parts.username),
        password=_unquoted(parts.password),
        schema=_unquoted(parts.path[1:]),
        port=port,
        extra=_extra(name, query.get("__extra__", query)),
    )


def _unquoted(text: str | None) -> str | None:
    return unquote(text) if text else None


def _port(name: str, value: Any) -> int | None:
    if value in (None, ""):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConnectionConfigError(f"{name}: port is not a whole number") from None


def _extra(name: str, value: Any) -> dict[str, Any]:
    """The extras, given as an object or as the JSON text of an object."""
    if isinstance(value, str) and value:
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ConnectionConfigError(f"{name}: extra is not JSON at character {error.pos}") from None
    if not value:
        return {}
    if not isinstance(value, dict):
        raise ConnectionConfigError(f"{name}: extra is a {type(value).__name__}; give a JSON object")
    return value
