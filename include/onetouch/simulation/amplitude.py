"""The way of the product's events through Amplitude: late, resent and broken rows, and hourly export files."""

from __future__ import annotations

import gzip
import json
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from onetouch.simulation.activity import EVENTS, Events
from onetouch.simulation.customers import Cohort

PROJECT = 424242

_SECOND = 1_000_000
_MINUTE, _HOUR = 60 * _SECOND, 3600 * _SECOND
_PUNCTUAL = np.array([EVENTS.index(name) for name in EVENTS if name.startswith("checkout_") or name == "plan_upgraded"])

# Ours: shares of rows. Real exports hold all of these.
LATE, DUPLICATE = 0.05, 0.015
DAMAGE = {
    "broken_json": 0.002,
    "no_user": 0.0015,
    "absurd_time_past": 0.0005,
    "absurd_time_future": 0.0005,
    "over_long": 0.00004,
    "unknown_shape": 0.0005,
}
"""Defect → additional rows with it, which no reader can use, as a share of the good rows."""

KINDS = ("good", "duplicate", *DAMAGE)
"""The kinds of lines in the export; late and history lines count as good."""


@dataclass(frozen=True)
class Lines:
    """Lines of an export and when Amplitude finished receiving each (µs since 1970 UTC)."""

    uploaded: np.ndarray
    text: np.ndarray
    kind: np.ndarray  # position in KINDS
    late: np.ndarray  # happened more than ten minutes before receipt
    history: np.ndarray

    @staticmethod
    def concat(parts: list[Lines]) -> Lines:
        """All lines of all parts, in that order."""
        return Lines(*(np.concatenate(column) for column in zip(*(vars(p).values() for p in parts), strict=True)))

    def take(self, which: np.ndarray) -> Lines:
        """The lines at these positions (or where true)."""
        return Lines(*(column[which] for column in vars(self).values()))


def send(events: Events, phrases: Phrases, rng: np.random.Generator, *, imported_at: datetime | None = None) -> Lines:
    """The export lines of these events, in no order; with `imported_at` they are a batch import of history."""
    n = len(events)
    skew = np.where(events.anonymous, 0, phrases.clock_skew[events.user])
    if imported_at is None:
        late = (rng.random(n) < LATE) & ~np.isin(events.event, _PUNCTUAL)
        # Offline clients: minutes to days, half of them within two hours.
        offline = np.clip(rng.lognormal(np.log(2 * 3600), 1.8, n), 600, 6 * 86400)
        delay = np.where(late, offline, rng.uniform(0.5, 90, n))
        sent = events.at + np.round(delay * _SECOND).astype(np.int64)
    else:
        sent = int(imported_at.timestamp()) * _SECOND + rng.integers(0, 2 * _HOUR, n)
    received = sent + rng.integers(_SECOND // 5, 3 * _SECOND, n)
    uploaded = received + rng.integers(0, 20 * _SECOND, n)
    # Amplitude corrects the client's times when its clock differs by a minute or more.
    client = events.at + np.where(np.abs(skew) >= _MINUTE, skew, 0)
    client_sent = sent + np.where(np.abs(skew) >= _MINUTE, skew, 0)
    at = np.where(np.abs(received - client_sent) >= _MINUTE, client + (received - client_sent), client)

    high, low = rng.integers(0, 2**64, (2, n), dtype=np.uint64)
    rows = _Rows(events, phrases, high, low)
    good = rows.text(client, client_sent, at, received, uploaded)
    lines = [_lines(uploaded, good, "good", uploaded - at > 10 * _MINUTE, imported_at is not None)]

    # A client that got no answer sends again seconds to two days later, under the same uuid.
    again = np.flatnonzero(rng.random(n) < DUPLICATE)
    wait = np.where(
        rng.random(len(again)) < 0.5, 0, np.round(np.exp(rng.uniform(1, np.log(40 * 3600), len(again))) * _SECOND)
    ).astype(np.int64)
    twice = rows.text(
        client, client_sent, at, received + _spread(wait, n, again), uploaded + _spread(wait, n, again), again
    )
    lines.append(_lines(uploaded[again] + wait, twice, "duplicate"))

    for kind, share in DAMAGE.items():
        hit = np.flatnonzero(rng.random(n) < share)
        lines.append(
            _lines(uploaded[hit], rows.broken(kind, hit, rng, client, client_sent, at, received, uploaded), kind)
        )
    return Lines.concat(lines)


def _spread(values: np.ndarray, n: int, at: np.ndarray) -> np.ndarray:
    whole = np.zeros(n, dtype=np.int64)
    whole[at] = values
    return whole


def _lines(
    uploaded: np.ndarray, text: list[str], kind: str, late: np.ndarray | None = None, history: bool = False
) -> Lines:
    n = len(uploaded)
    column = np.empty(n, dtype=object)
    column[:] = text
    late = np.zeros(n, dtype=bool) if late is None or history else late
    return Lines(uploaded, column, np.full(n, KINDS.index(kind)), late, np.full(n, history))


def _stamps(moments: np.ndarray) -> list[str]:
    """Moments in Amplitude's notation, UTC: `2025-07-01 16:34:54.837000`."""
    return [text.replace("T", " ") for text in np.datetime_as_string(moments.astype("M8[us]"), unit="us").tolist()]


@dataclass(frozen=True)
class Phrases:
    """The parts of an event that are the same in all events of a user or account, by its row in the cohort."""

    people: list[tuple[str, str, str, str, str]]
    groups: list[str]
    clock_skew: np.ndarray  # µs by user

    @classmethod
    def of(cls, cohort: Cohort) -> Phrases:
        """The phrases of a cohort."""
        who, users = cohort.accounts, cohort.users
        by_group = (who["account_basis"] == "group").tolist()
        names = who["account_id"].tolist()
        groups = [f'{{"organisation":["{name}"]}}' if g else "{}" for name, g in zip(names, by_group, strict=True)]
        columns = ("amplitude_id", "user_id", "account", "mobile", "email", "name", "title", "role")
        people = [
            (
                f'"amplitude_id":{number},"app":{PROJECT},',
                f'"device_id":"{user}R",',
                groups[account],
                '"library":"simulated/1.0","platform":"' + ("iOS" if mobile else "Web") + '",',
                f'"user_id":"{user}","user_properties":{{"email":"{email}","name":"{name}","title":"{title}",'
                f'"role":"{role}"}},',
            )
            for number, user, account, mobile, email, name, title, role in zip(
                *(users[c].tolist() for c in columns), strict=True
            )
        ]
        skew = np.round(users["clock_skew"].to_numpy() * _SECOND).astype(np.int64)
        return cls(people, groups, skew)


class _Rows:
    """Writes events as Amplitude's JSON."""

    def __init__(self, events: Events, phrases: Phrases, high: np.ndarray, low: np.ndarray) -> None:
        self.events = events
        self.phrases = phrases
        version4 = (high & np.uint64(0xFFFFFFFFFFFF0FFF)) | np.uint64(0x4000)
        variant = (low & np.uint64(0x3FFFFFFFFFFFFFFF)) | np.uint64(0x8000000000000000)
        self.key = [f"{a:016x}{b:016x}" for a, b in zip(version4.tolist(), variant.tolist(), strict=True)]

    def text(
        self, client: np.ndarray, client_sent: np.ndarray, at: np.ndarray, received: np.ndarray,
        uploaded: np.ndarray, which: np.ndarray | None = None,
    ) -> list[str]:  # fmt: skip
        """One JSON object a row."""
        e = self.events
        which = np.arange(len(e)) if which is None else which
        columns = zip(
            which.tolist(),
            *(column[which].tolist() for column in (e.user, e.account, e.event, e.properties, e.anonymous)),
            (at // _HOUR * 3_600_000)[which].tolist(),  # a session's id is its start in ms: here the start of the hour
            *(_stamps(moments[which]) for moments in (client, client_sent, at, received, uploaded)),
            strict=True,
        )
        lines = []
        for i, user, account, event, properties, anonymous, began, *times in columns:
            t_client, t_sent, t_at, t_received, t_uploaded = times
            key = self.key[i]
            about, device, groups, library, person = self.phrases.people[user]
            if anonymous:
                device, library = (
                    '"device_id":"simulated-enrichment",',
                    '"library":"simulated/1.0","platform":"server",',
                )
                groups, person, began = self.phrases.groups[account], '"user_id":null,"user_properties":{},', -1
            lines.append(
                f'{{"$insert_id":"{key[:16]}-{i}",{about}"client_event_time":"{t_client}","client_upload_time":"{t_sent}",'
                f'"data":{{"path":"/batch","group_ids":{{}}}},{device}"event_id":{i},"event_properties":{properties},'
                f'"event_time":"{t_at}","event_type":"{EVENTS[event]}","group_properties":{{}},"groups":{groups},{library}'
                f'"server_received_time":"{t_received}","server_upload_time":"{t_uploaded}","session_id":{began},{person}'
                f'"uuid":"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}"}}'
            )
        return lines

    def broken(self, kind: str, which: np.ndarray, rng: np.random.Generator, *times: np.ndarray) -> list[str]:
        """Copies of rows under uuids of their own, each with the one defect `kind`."""
        client, client_sent, at, received, uploaded = times
        if kind.startswith("absurd_time"):
            year = 1970 if kind.endswith("past") else 2099
            moment = int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * _SECOND
            client = at = np.full(len(client), moment, dtype=np.int64)
        fresh = rng.integers(0, 2**64, len(which), dtype=np.uint64).tolist()
        texts = []
        for line, key in zip(self.text(client, client_sent, at, received, uploaded, which), fresh, strict=True):
            head, _, _ = line.rpartition('"uuid":"')
            whole = f'{head}"uuid":"00000000-0000-4000-8000-{key & 0xFFFFFFFFFFFF:012x}"}}'
            if kind == "broken_json":
                whole = whole[: int(rng.integers(40, len(whole) - 20))]
            elif kind == "unknown_shape":
                whole = "[" + whole + "]" if key % 2 else json.dumps("event without a body")
            elif kind in ("no_user", "over_long"):
                row = json.loads(whole)
                if kind == "no_user":
                    row.update(user_id=None, device_id=None, amplitude_id=None, groups={}, user_properties={})
                else:
                    row |= {"$insert_id": f"{key:016x}", "event_properties": {"comment": "x" * 70_000}}
                whole = json.dumps(row, separators=(",", ":"))
            texts.append(whole)
        return texts


def write(folder: Path, lines: Lines, *, month: str) -> None:
    """Writes one answer of the export API, `folder/YYYY-MM.zip`: a gz of JSON lines for each hour that received any."""
    order = np.argsort(lines.uploaded, kind="stable")
    uploaded, text = lines.uploaded[order], lines.text[order]
    hours = uploaded // _HOUR
    edges = np.concatenate([[0], np.flatnonzero(np.diff(hours)) + 1, [len(hours)]])
    with zipfile.ZipFile(folder / f"{month}.zip", "w", zipfile.ZIP_STORED) as archive:
        for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            hour = datetime.fromtimestamp(int(hours[first]) * 3600, UTC)
            name = f"{PROJECT}/{PROJECT}_{hour:%Y-%m-%d}_{hour.hour}#0.json.gz"
            body = "\n".join(text[first:last]) + "\n"
            # A fixed time in the zip and the gz, so that the same simulation writes the same bytes.
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(info, gzip.compress(body.encode(), compresslevel=4, mtime=0))
