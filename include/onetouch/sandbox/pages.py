"""Web pages for people: a rep's task list as the CRM shows it, and the Slack channels."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, tzinfo
from importlib.resources import files
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from onetouch.sandbox import mrkdwn
from onetouch.sandbox.slack import BOT_USER, Slack, when
from onetouch.sandbox.store import INTEGRATION_USER, Store

_TEMPLATES: Final = "templates"
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_PRIORITY: Final = {"High": 0, "Normal": 1, "Low": 2}
_CONTEXT: Final = ", ".join(
    f"coalesce(a.{name}, l.{name}) AS {name}"
    for name in (
        "Website", "Industry", "Onetouch_Score__c", "Onetouch_Tier__c", "Onetouch_Trigger__c", "Onetouch_Motion__c",
        "Onetouch_Activated__c", "Onetouch_Milestones__c", "Onetouch_Team_Size__c", "Onetouch_Features_Used__c",
        "Onetouch_Usage_28d__c", "Onetouch_Limit_Share__c", "Onetouch_Dossier__c", "Onetouch_As_Of__c",
    )
)  # fmt: skip
_SHOWN_DONE: Final = 30
_SHOWN_MESSAGES: Final = 200


class Pages:
    """The pages of a store; without scripts and inline styles, all text escaped."""

    def __init__(self, store: Store, slack: Slack) -> None:
        self.store, self.slack = store, slack
        self.environment = Environment(
            loader=PackageLoader("onetouch.sandbox", _TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.environment.filters |= {"plain": mrkdwn.plain, "number": _number, "initials": _initials}

    def routes(self) -> list[Route]:
        """The routes of the pages."""
        return [
            Route("/", self.tasks),
            Route("/tasks", self.tasks),
            Route("/slack", self.channels),
            Route("/slack/files/{file}", self.file),
            Route("/style.css", self.style),
            Route("/{record}", self.record),
        ]

    def _page(self, name: str, **values: Any) -> Response:
        now = self.store.now()
        text = self.environment.get_template(name).render(
            now=f"{now.astimezone(UTC):%a %-d %b %Y, %H:%M} UTC",
            virtual=self.store.setting("now") is not None,
            **values,
        )
        return HTMLResponse(text, headers=_HEADERS)

    async def style(self, request: Request) -> Response:
        """The one style sheet."""
        style = files("onetouch.sandbox").joinpath(_TEMPLATES, "style.css").read_bytes()
        return Response(style, media_type="text/css", headers=_HEADERS)

    async def record(self, request: Request) -> Response:
        """Leads from a record's own address to the tasks of its owner, as an org leads to its page."""
        record = request.path_params["record"]
        for thing in ("Task", "Account", "Lead"):
            row = self.store.db.execute(f"SELECT OwnerId FROM {thing} WHERE Id = ?", (record,)).fetchone()  # noqa: S608
            if row is not None:
                return RedirectResponse(f"/tasks?rep={row['OwnerId']}#{record}", headers=_HEADERS)
        raise HTTPException(404)

    # -- tasks

    async def tasks(self, request: Request) -> Response:
        """A rep's task list."""
        reps = self.store.db.execute(
            "SELECT u.Id, u.Name, u.Email, u.IsActive, u.TimeZoneSidKey, coalesce(sum(t.IsClosed = 0), 0) AS open,"
            " count(t.Id) AS every FROM User u LEFT JOIN Task t ON t.OwnerId = u.Id AND t.IsDeleted = 0"
            " GROUP BY u.Id HAVING every > 0 OR u.Id != ? ORDER BY open DESC, u.Name",
            (INTEGRATION_USER,),
        ).fetchall()
        if not reps:
            return self._page("empty.html", page="tasks")
        rep = next((r for r in reps if r["Id"] == request.query_params.get("rep")), reps[0])
        zone = _zone(rep["TimeZoneSidKey"])
        rows = self.store.db.execute(
            # A lead's task has no account: the lead holds the context.
            f"SELECT t.*, coalesce(a.Name, l.Company) AS AccountName, a.Plan__c, {_CONTEXT}"
            " FROM Task t LEFT JOIN Account a ON a.Id = t.AccountId LEFT JOIN Lead l ON l.Id = t.WhoId"
            " WHERE t.OwnerId = ? AND t.IsDeleted = 0",
            (rep["Id"],),
        ).fetchall()
        tasks = [self._task(row, zone) for row in rows]
        waiting = sorted((t for t in tasks if not t["closed"]), key=lambda t: t["order"])
        done = sorted((t for t in tasks if t["closed"]), key=lambda t: t["completed"], reverse=True)
        return self._page(
            "tasks.html",
            page="tasks",
            reps=reps,
            rep=rep,
            open=waiting,
            done=done[:_SHOWN_DONE],
            done_count=len(done),
            overdue=sum(t["late"] for t in waiting),
        )

    def _task(self, row: Any, zone: tzinfo) -> dict[str, Any]:
        today = self.store.now().astimezone(zone).date()
        due = date.fromisoformat(row["ActivityDate"]) if row["ActivityDate"] else None
        reminder = _moment(row["ReminderDateTime"]) if row["IsReminderSet"] and row["ReminderDateTime"] else None
        completed = _moment(row["CompletedDateTime"]) if row["CompletedDateTime"] else None
        score = row["Onetouch_Score__c"]
        return {
            "id": row["Id"],
            "subject": row["Subject"] or "(no subject)",
            "priority": row["Priority"] or "Normal",
            "status": row["Status"],
            "closed": bool(row["IsClosed"]),
            "late": bool(due and due < today),
            "due": _day(due, today) if due else None,
            "reminder": self._clock(reminder, zone) if reminder else None,
            "completed": row["CompletedDateTime"] or "",
            "completed_shown": self._clock(completed, zone) if completed else None,
            "picked": [v for v in (row["Onetouch_Outcome__c"], row["Onetouch_Disposition__c"]) if v],
            "account": row["AccountName"],
            "about": " · ".join(
                str(v)
                for v in (_bare(row["Website"]), row["Industry"], row["Plan__c"] and f"{row['Plan__c']} plan")
                if v
            ),
            "tier": row["Onetouch_Tier__c"],
            "score": score,
            "trigger": row["Onetouch_Trigger__c"],
            "motion": (row["Onetouch_Motion__c"] or "").replace("_", "-"),
            "activated": bool(row["Onetouch_Activated__c"]),
            "milestones": row["Onetouch_Milestones__c"],
            "team": row["Onetouch_Team_Size__c"],
            "features": row["Onetouch_Features_Used__c"],
            "usage": row["Onetouch_Usage_28d__c"],
            "limit": row["Onetouch_Limit_Share__c"],
            "notes": _sections(row["Description"] or ""),
            "dossier": _sections(row["Onetouch_Dossier__c"] or ""),
            "order": (
                row["ActivityDate"] or "9999",
                _PRIORITY.get(row["Priority"], 1),
                row["ReminderDateTime"] or "9999",
                -(score or 0.0),
                row["Id"],
            ),
        }

    def _clock(self, moment: datetime, zone: tzinfo) -> str:
        local = moment.astimezone(zone)
        day = _day(local.date(), self.store.now().astimezone(zone).date())
        return f"{day}, {local:%H:%M}"

    # -- slack

    async def channels(self, request: Request) -> Response:
        """The channels and direct messages."""
        rows = self.store.db.execute(
            "SELECT c.*, count(m.ts) AS messages FROM channel c LEFT JOIN message m ON m.channel = c.id"
            " WHERE c.member = 1 GROUP BY c.id ORDER BY c.kind, c.name"
        ).fetchall()
        busiest = max(rows, key=lambda r: r["messages"] if r["kind"] == "channel" else -1)
        channel = next((r for r in rows if r["id"] == request.query_params.get("channel")), busiest)
        names = {row["id"]: row["name"] for row in rows} | {u: r["Name"] for u, r in self.slack.users().items()}
        names[BOT_USER] = "Onetouch"
        found = self.store.db.execute(
            "SELECT * FROM message WHERE channel = ? ORDER BY ts", (channel["id"],)
        ).fetchall()
        threads: dict[str, list[dict[str, Any]]] = {}
        roots = []
        for row in found:
            message = self._message(row, names)
            if row["thread_ts"]:
                threads.setdefault(row["thread_ts"], []).append(message)
            else:
                roots.append(message)
        for message in roots:
            message["replies"] = threads.get(message["ts"], [])
        return self._page(
            "slack.html",
            page="slack",
            channels=[r for r in rows if r["kind"] == "channel"],
            directs=[r for r in rows if r["kind"] == "direct"],
            channel=channel,
            messages=roots[-_SHOWN_MESSAGES:],
        )

    def _message(self, row: Any, names: dict[str, str]) -> dict[str, Any]:
        moment = when(row["ts"])
        blocks = json.loads(row["blocks"]) if row["blocks"] else []
        files = json.loads(row["files"]) if row["files"] else []
        return {
            "ts": row["ts"],
            "day": f"{moment:%A, %-d %B %Y}",
            "time": f"{moment:%H:%M}",
            "text": mrkdwn.render(row["text"], names),
            "blocks": [self._block(block, names) for block in blocks],
            "files": [self._picture({"id": file}, "") for file in files],
            "edited": bool(row["edited"]),
            "replies": [],
        }

    def _block(self, block: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
        """A block in the form its template requires: kind, and texts that are already escaped."""
        kind = block["type"]
        shown: dict[str, Any] = {"kind": kind}
        if kind == "header":
            shown["text"] = mrkdwn.plain(block["text"]["text"])
        elif kind == "section":
            shown["text"] = self._text(block["text"], names) if "text" in block else None
            shown["fields"] = [self._text(item, names) for item in block.get("fields", [])]
            accessory = block.get("accessory")
            shown["accessory"] = self._element(accessory, names) if accessory else None
        elif kind in ("context", "actions"):
            shown["elements"] = [self._element(element, names) for element in block["elements"]]
        elif kind == "image":
            shown |= self._element(block, names)
        elif kind == "markdown":
            shown = {"kind": "section", "text": mrkdwn.render(block["text"], names), "fields": [], "accessory": None}
        elif kind == "rich_text":
            text = mrkdwn.rich(block["elements"], names)
            shown = {"kind": "section", "text": text, "fields": [], "accessory": None}
        return shown

    @staticmethod
    def _text(value: dict[str, Any], names: dict[str, str]) -> Markup:
        return mrkdwn.plain(value["text"]) if value["type"] == "plain_text" else mrkdwn.render(value["text"], names)

    def _element(self, element: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
        if element["type"] == "image":
            file = element.get("slack_file", {"url": element.get("image_url", "")})
            title = element.get("title", {}).get("text", "")
            return self._picture(file, element["alt_text"], title)
        if element["type"] == "button":
            url = str(element.get("url", ""))
            safe = url if url.startswith(("https://", "http://")) else ""
            return {"kind": "button", "text": mrkdwn.plain(element["text"]["text"]), "url": safe,
                    "style": element.get("style", "")}  # fmt: skip
        return {"kind": "text", "text": self._text(element, names)}

    def _picture(self, file: dict[str, Any], alt: str, title: str = "") -> dict[str, Any]:
        given = str(file.get("id") or str(file.get("url", "")).rpartition("/")[2])
        row = self.store.db.execute("SELECT * FROM file WHERE id = ?", (given,)).fetchone()
        if row is None:
            return {"kind": "image", "source": "", "alt": alt, "title": title}
        return {"kind": "image", "source": f"/slack/files/{row['id']}", "alt": alt or row["alt_text"] or row["title"],
                "title": title or ("" if alt else row["title"])}  # fmt: skip

    async def file(self, request: Request) -> Response:
        """An uploaded picture."""
        row = self.store.db.execute(
            "SELECT content, mimetype FROM file WHERE id = ? AND completed = 1", (request.path_params["file"],)
        ).fetchone()
        if row is None:
            return PlainTextResponse("Not Found", 404, _HEADERS)
        picture = str(row["mimetype"]).startswith("image/")
        more = {} if picture else {"Content-Disposition": "attachment"}
        kind = row["mimetype"] if picture else "application/octet-stream"
        return Response(row["content"], media_type=kind, headers=_HEADERS | more)


def _zone(name: str | None) -> tzinfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _day(day: date, today: date) -> str:
    near = {0: "today", -1: "yesterday", 1: "tomorrow"}.get((day - today) // timedelta(days=1))
    return near or (f"{day:%a %-d %b}" if day.year == today.year else f"{day:%a %-d %b %Y}")


def _initials(name: str | None) -> str:
    words = [word for word in (name or "").split() if word[0].isalnum()] or ["?"]
    return "".join(word[0] for word in ([words[0], words[-1]] if len(words) > 1 else words)).upper()


def _bare(address: str | None) -> str | None:
    return address and address.removeprefix("https://").removeprefix("http://").removeprefix("www.").rstrip("/")


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _sections(text: str) -> list[dict[str, Any]]:
    """Splits plain text into sections: a line in capitals heads the lines after it; "Label: value" is split."""
    sections: list[dict[str, Any]] = []
    for line in text.splitlines():
        bare = line.strip()
        if not bare:
            continue
        if bare == line and bare.partition("(")[0].isupper() and len(bare) < 60:
            sections.append({"title": bare.capitalize(), "lines": []})
            continue
        if not sections:
            sections.append({"title": "", "lines": []})
        label, colon, value = bare.partition(": ")
        pair = bool(colon) and len(label) <= 40 and line.startswith(" ")
        sections[-1]["lines"].append({"label": label if pair else "", "text": value if pair else bare})
    return sections
