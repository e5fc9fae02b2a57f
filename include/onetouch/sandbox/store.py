"""The stand-in's state: one SQLite file in its home, committed before an answer is sent."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from onetouch.sandbox.customs import customised
from onetouch.sandbox.fields import CLOSED, SObject, make_id

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS session (token TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS fault (id INTEGER PRIMARY KEY, spec TEXT NOT NULL, remaining INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS call (
    day TEXT, api TEXT, method TEXT, path TEXT, status INTEGER, n INTEGER NOT NULL,
    PRIMARY KEY (day, api, method, path, status)
);
CREATE TABLE IF NOT EXISTS message (
    channel TEXT, ts TEXT, thread_ts TEXT, sender TEXT, text TEXT, blocks TEXT, metadata TEXT, files TEXT, edited TEXT,
    PRIMARY KEY (channel, ts)
);
CREATE TABLE IF NOT EXISTS file (
    id TEXT PRIMARY KEY, name TEXT, title TEXT, alt_text TEXT, length INTEGER, content BLOB, mimetype TEXT,
    completed INTEGER NOT NULL DEFAULT 0, looks INTEGER NOT NULL DEFAULT 0, created TEXT
);
CREATE TABLE IF NOT EXISTS job (
    id TEXT PRIMARY KEY, sobject TEXT, operation TEXT, key TEXT, ending TEXT, delimiter TEXT, state TEXT, version TEXT,
    created TEXT, stamp TEXT, content BLOB, due TEXT, polls INTEGER NOT NULL DEFAULT 0,
    processed INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, error TEXT
);
CREATE TABLE IF NOT EXISTS job_row (
    job TEXT, number INTEGER, record TEXT, created INTEGER, error TEXT, PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS channel (id TEXT PRIMARY KEY, name TEXT, kind TEXT, member INTEGER NOT NULL DEFAULT 1);
INSERT OR IGNORE INTO channel VALUES
    ('C0ALERTS', 'sales-alerts', 'channel', 1),
    ('C0LEADERS', 'leadership', 'channel', 1),
    ('C0OPS', 'data-ops', 'channel', 1),
    ('C0RANDOM', 'random', 'channel', 0);
"""

SETTINGS: Final[dict[str, Any]] = {
    "now": None,  # virtual time; null: the real clock
    "api_daily": 100_000,  # Salesforce calls a day
    "slack_per_second": 1.0,  # messages a second and channel
    "slack_burst": 5,  # messages a quiet channel accepts at once
    "slack_scopes": None,  # what the bot may do; null: everything
    "slack_told": [],  # what an app has said to the person who pressed a button
    "slack_archived": [],  # ids of archived channels, which accept no messages
    "hubspot_daily": 650_000,  # HubSpot calls a day
    "hubspot_ten_seconds": 190,  # HubSpot calls in ten seconds
    "hubspot_searches": 5,  # HubSpot searches a second
    "hubspot_search_lag": 0,  # seconds until HubSpot's search finds a change
    "file_looks": 1,  # how many answers of files.info have no mimetype before the file is processed
    "export_hours": 24 * 365,  # most hours of an Amplitude export; a longer one times out
    "permissions": 0,  # 1: callers may do what our permission set allows, 2: with opportunities; 0: as reps, everything
    "duplicate_rules": [],  # which new records are refused for looking like another (`duplicates.check`)
    "person_accounts": 0,  # 1: the org has person accounts, and the fields of theirs
    "rules": {},  # rules of the org's own; see customs.py
    "hidden": [],  # fields that field-level security keeps from the callers: Contact.DoNotCall
    "bulk_looks": 1,  # how often a poll of a bulk job answers InProgress before it is complete
    "audience_secret": "sandbox-audience-secret",  # what requests to the receiver of audiences are signed with
    "certificate": None,  # the key pair of the app that signs in by JWT
    "sequence": 0,
}

_NOT_LOADED: Final[dict[str, Any]] = {"not": "loaded"}

INTEGRATION_USER: Final = make_id("005", 1)


class Store:
    """State of the stand-in. One connection, used by one thread at a time."""

    def __init__(self, home: Path | None, org: dict[str, SObject], image: bytes | None = None) -> None:
        """A store in `home`, or in memory without one; with the content of another store's `image`, else empty."""
        self._deployed = org
        self.org, self.rules = org, dict[str, Any]()
        self.depth = 0
        file: Path | str = ":memory:"
        if home:
            home.mkdir(parents=True, exist_ok=True)
            file = home / "sandbox.sqlite"
        self.db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self.db.row_factory = sqlite3.Row
        self.db.execute("PRAGMA case_sensitive_like = OFF")
        if image:
            self.db.deserialize(image)  # with what an org without rules of its own has
            self.customise(self.setting("rules"))
            return
        if home:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.executescript(_TABLES)
        with self.transaction():
            for sobject in org.values():
                self._table(sobject)
            self.load_user()
        self.rules = _NOT_LOADED
        self.customise(self.setting("rules"))

    def customise(self, rules: dict[str, Any]) -> None:
        """Gives the org rules of its own, in place of those it had. Raises ValueError for rules that are not valid."""
        org = customised(self._deployed, rules)
        if rules != self.rules:
            with self.transaction():
                for name, sobject in org.items():
                    if sobject is not self._deployed[name]:
                        self._table(sobject)
                self._load_reference_data(rules)
                self.set("rules", rules)
        self.org, self.rules = org, rules

    def _load_reference_data(self, rules: dict[str, Any]) -> None:
        """What callers read of the rules as records: statuses, currencies with their rates, queues and admins."""
        closed = rules.get("closed") or [CLOSED]
        statuses = customised(self._deployed, rules)["task"].fields["status"].values
        currencies = rules.get("currencies") or {}
        records: dict[str, list[dict[str, Any]]] = {
            "TaskStatus": [{"MasterLabel": s, "ApiName": s, "IsClosed": int(s in closed)} for s in statuses],
            "CurrencyType": [
                {"IsoCode": c, "ConversionRate": r, "IsActive": 1, "IsCorporate": int(r == 1)}
                for c, r in currencies.items()
            ],
            "DatedConversionRate": [
                {
                    "IsoCode": d["currency"], "ConversionRate": d["rate"], "StartDate": d["start"],
                    "NextStartDate": d["next_start"],
                }
                for d in rules.get("dated_rates") or ()
            ],
            "Group": [{"Id": i, "Name": "A queue", "Type": "Queue"} for i in rules.get("queues") or ()],
            "PermissionSet": [
                {
                    "Id": make_id("0PS", 1), "Name": "Admins", "PermissionsCustomizeApplication": 1,
                    "PermissionsModifyAllData": 1,
                }
            ],
            "PermissionSetAssignment": [
                {"AssigneeId": i, "PermissionSetId": make_id("0PS", 1)} for i in rules.get("admins") or ()
            ],
        }  # fmt: skip
        moment = "2020-01-01T00:00:00.000+0000"
        for name, rows in records.items():
            sobject = self._deployed[name.lower()]
            self.db.execute(f'DELETE FROM "{name}"')
            for number, row in enumerate(rows, 1):
                whole = {"Id": make_id(sobject.prefix, number), "IsDeleted": 0, "SystemModstamp": moment} | row
                marks = ", ".join("?" for _ in whole)
                self.db.execute(f'INSERT INTO "{name}" ({", ".join(whole)}) VALUES ({marks})', [*whole.values()])

    def _table(self, sobject: SObject) -> None:
        """The table of an sObject; fields deployed since the last start become new columns."""
        columns = {
            key: f"{field.name} {'INTEGER' if field.type == 'boolean' else 'TEXT' if field.is_text else ''}"
            f"{f' DEFAULT {int(field.default)}' if field.type == 'boolean' else ''}{field.collation}"
            for key, field in sobject.fields.items()
        }
        self.db.execute(
            f'CREATE TABLE IF NOT EXISTS "{sobject.name}" ({", ".join(columns.values())}, PRIMARY KEY (Id))'
            " WITHOUT ROWID"
        )
        present = {row["name"].lower() for row in self.db.execute(f'PRAGMA table_info("{sobject.name}")')}
        for key in columns.keys() - present:
            self.db.execute(f'ALTER TABLE "{sobject.name}" ADD COLUMN {columns[key]}')
        for field in sobject.fields.values():
            if field.unique:
                self.db.execute(
                    f'CREATE UNIQUE INDEX IF NOT EXISTS "{sobject.name}_{field.name}" ON "{sobject.name}" '
                    f"({field.name}{field.collation}) WHERE IsDeleted = 0 AND {field.name} IS NOT NULL"
                )
            elif field.name in ("AccountId", "WhatId", "WhoId", "OwnerId", "SystemModstamp"):
                self.db.execute(
                    f'CREATE INDEX IF NOT EXISTS "{sobject.name}_{field.name}" ON "{sobject.name}" ({field.name})'
                )

    def empty(self) -> None:
        """Deletes everything: afterwards the org and the workspace are new."""
        with self.transaction():
            for name in (
                "setting",
                "session",
                "fault",
                "call",
                "message",
                "file",
                "job",
                "job_row",
                *(s.name for s in self.org.values()),
            ):
                self.db.execute(f'DELETE FROM "{name}"')
            self.db.execute("DELETE FROM channel WHERE kind = 'direct'")
            others = "name LIKE 'hubspot%' OR name LIKE 'audience%'"
            names = self.db.execute(f"SELECT name FROM sqlite_master WHERE type = 'table' AND ({others})")
            for row in names.fetchall():
                self.db.execute(f'DELETE FROM "{row["name"]}"')
            self.load_user()
        self.rules = _NOT_LOADED
        self.customise({})

    def load_user(self) -> None:
        """Creates the user the integration signs in as; every org has one."""
        moment = "2020-01-01T00:00:00.000+0000"
        self.db.execute(
            "INSERT OR IGNORE INTO User (Id, IsDeleted, CreatedDate, LastModifiedDate, SystemModstamp, Username, Name,"
            " Email, IsActive, TimeZoneSidKey, UserType) VALUES (?, 0, ?, ?, ?, ?, ?, ?, 1, 'UTC', 'Standard')",
            (INTEGRATION_USER, moment, moment, moment, "integration@sandbox.example", "Onetouch Integration",
             "integration@sandbox.example"),
        )  # fmt: skip

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction: all changes or none; may be nested."""
        nested = self.db.in_transaction
        self.depth += nested
        name = f"level{self.depth}"
        self.db.execute(f"SAVEPOINT {name}" if nested else "BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute(f"ROLLBACK TO {name}" if nested else "ROLLBACK")
            raise
        else:
            self.db.execute(f"RELEASE {name}" if nested else "COMMIT")
        finally:
            self.depth -= nested

    def setting(self, name: str) -> Any:
        """A setting's value, or its default."""
        row = self.db.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
        return json.loads(row["value"]) if row else SETTINGS[name]

    def set(self, name: str, value: Any) -> None:
        """Stores a setting."""
        self.db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, json.dumps(value)))

    def now(self) -> datetime:
        """The stand-in's time: the virtual time when set, else the machine's."""
        virtual = self.setting("now")
        return datetime.fromisoformat(virtual) if virtual else datetime.now(UTC)

    def stamp(self) -> str:
        """The present time in Salesforce's notation; system times have whole seconds."""
        return f"{self.now():%Y-%m-%dT%H:%M:%S}.000+0000"

    def next_number(self) -> int:
        """A number that was never returned before."""
        number = int(self.setting("sequence")) + 1
        self.set("sequence", number)
        return number

    def count_call(self, api: str, method: str, path: str, status: int) -> None:
        """Counts a call for /_sandbox/log and the daily limit."""
        self.db.execute(
            "INSERT INTO call VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET n = n + 1",
            (f"{self.now():%Y-%m-%d}", api, method, path, status),
        )

    def calls_today(self, api: str) -> int:
        """Calls to an API on the (virtual) UTC day."""
        row = self.db.execute("SELECT sum(n) FROM call WHERE day = ? AND api = ?", (f"{self.now():%Y-%m-%d}", api))
        return row.fetchone()[0] or 0
