"""HubSpot, read and written so that nothing is done twice and no row's outcome is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from tenacity.wait import wait_base

from onetouch.connections import Connection
from onetouch.delivery import hubspot_fields as fields
from onetouch.delivery.crm import (
    RELEASED,
    UNKNOWN,
    Activity,
    CrmError,
    FieldsMissing,
    LimitReached,
    Outcome,
    Refused,
    Row,
    Unreachable,
)
from onetouch.delivery.hubspot_fields import ACCOUNT_ID, DISPOSITION, HANDOFF_ID, OUTCOME, moment
from onetouch.delivery.hubspot_wire import Busy, Wire, said
from onetouch.policy import Policy

BATCH = 100
"""Records a batch holds."""

_ASSOCIATIONS = 1_000
"""Records whose associations are asked for at once."""

_SEARCH_PAGE, _LIST_PAGE, _OWNER_PAGE = 200, 100, 500
_SEARCH_CHARS = 2_000
"""Ours: characters of one search's list of values; the whole search may have 3,000."""

_PRIMARY = 5
"""Association type of a deal's primary company."""

_MERGED = "hs_merged_object_ids"
_COMPANY = ("hubspot_owner_id", ACCOUNT_ID, "createdate", _MERGED)
_DEAL = (
    "dealstage", "pipeline", "amount", "createdate", "closedate", "hs_is_closed", "hs_is_closed_won",
    "hs_analytics_source", "hubspot_owner_id", "hs_lastmodifieddate",
)  # fmt: skip
_ACTIVITIES: dict[str, tuple[str, ...]] = {
    "tasks": (
        "hs_task_subject", "hs_task_body", "hs_task_status", "hs_task_completion_date", "hubspot_owner_id",
        "hs_createdate", "hs_lastmodifieddate", HANDOFF_ID, OUTCOME, DISPOSITION,
    ),
    "calls": (
        "hs_call_title", "hs_call_body", "hs_call_status", "hs_timestamp", "hubspot_owner_id", "hs_createdate",
        "hs_lastmodifieddate",
    ),
    "emails": (
        "hs_email_subject", "hs_email_text", "hs_email_status", "hs_email_direction", "hs_timestamp",
        "hubspot_owner_id", "hs_createdate", "hs_lastmodifieddate",
    ),
    "meetings": (
        "hs_meeting_title", "hs_meeting_body", "hs_meeting_outcome", "hs_meeting_end_time", "hs_timestamp",
        "hubspot_owner_id", "hs_createdate", "hs_lastmodifieddate",
    ),
}  # fmt: skip
_NO_CALL = {"QUEUED", "RINGING", "CONNECTING", "CALLING_CRM_USER", "IN_PROGRESS", "CANCELED"}
_NO_EMAIL = {"BOUNCED", "FAILED", "SCHEDULED", "SENDING"}
_NO_MEETING = {"CANCELED", "NO_SHOW", "RESCHEDULED"}

_NOT_FOUND = "OBJECT_NOT_FOUND"
_NO_ASSOCIATIONS = "crm.associations.NO_ASSOCIATIONS_FOUND"
_PASSING = {"RATE_LIMITS", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT"}
"""Categories of a row's refusal that a later run may not meet again."""

Record = dict[str, Any]
Filter = dict[str, Any]


class HubSpot:
    """One account, through its official client. The connection's password is the token of a private app.

    `api_reserve`: the share of the account's daily calls that is left to others. Raises ConnectionConfigError at
    once when the connection cannot work.
    """

    name = "hubspot"

    def __init__(
        self,
        connection: Connection,
        *,
        api_reserve: float = 0.0,
        wait: wait_base | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._wire = Wire(connection, api_reserve=api_reserve, wait=wait, sleep=sleep)
        self._checked = False

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def read_reps(self) -> Iterator[Row]:
        """See Crm. Time zones are those of the users' settings, where the app may read them."""
        zones = self._timezones()
        for archived in (False, True):
            for owner in self._pages(self._wire.owners.get_page, limit=_OWNER_PAGE, archived=_flag(archived)):
                user = str(owner.get("userId") or owner.get("userIdIncludingInactive") or "")
                yield {
                    "owner_id": str(owner["id"]),
                    "email": owner.get("email"),
                    "name": f"{owner.get('firstName') or ''} {owner.get('lastName') or ''}".strip(),
                    "active": not archived,
                    "timezone": zones.get(user),
                }

    def read_accounts(self, policy: Policy, since: datetime | None = None) -> Iterator[Row]:
        """See Crm. Accounts are companies; `policy.crm.account_fields` may hold HubSpot's own property names."""
        columns = {c: fields.company_property(f) for c, f in policy.crm.account_fields.items() if f}
        wanted = [*_COMPANY, *columns.values()]
        if since is None:
            for record in self._list("companies", wanted):
                yield _account(record, columns)
            return
        for record in self._search("companies", wanted, [_changed(since)]):
            yield _account(record, columns)
            for old in _merged(record):
                yield _account(record, columns) | {
                    "crm_account_id": old, "account_id": None, "is_deleted": True, "merged_into": record["id"],
                }  # fmt: skip
        for record in self._archived("companies", wanted, since):
            yield _account(record, columns)

    def read_opportunities(self, since: datetime | None = None) -> Iterator[Row]:
        """See Crm. Opportunities are deals; one of several companies counts for its primary one."""
        stages = self._stages()
        records = self._list("deals", _DEAL) if since is None else self._search("deals", _DEAL, [_changed(since)])
        for part in _parts(records, _ASSOCIATIONS):
            companies = self._companies("deals", [deal["id"] for deal in part])
            for deal in part:
                if deal["id"] in companies:
                    yield _opportunity(deal, companies[deal["id"]], stages)
        if since is not None:
            for deal in self._archived("deals", _DEAL, since):
                yield _opportunity(deal, None, stages)

    def read_activities(self, since: datetime) -> Iterator[Activity]:
        """See Crm. An e-mail the customer wrote is none; meetings come when they changed or ended since `since`.

        Of what was deleted only tasks are told: a call or an e-mail that is gone is nobody's touch.
        """
        for thing, wanted in _ACTIVITIES.items():
            groups = [[_changed(since)]]
            if thing == "meetings":
                groups.append([_from("hs_meeting_end_time", since)])
            found = (r for r in self._search(thing, wanted, *groups) if not _from_customer(r))
            yield from (a for a in self._activities(thing, found) if a.crm_account_id or a.handoff_id)
        yield from (_activity("tasks", r, None) for r in self._archived("tasks", _ACTIVITIES["tasks"], since))

    def tasks_of(self, handoff_ids: Iterable[str]) -> dict[str, Activity]:
        """See Crm."""
        found = self._keyed("tasks", HANDOFF_ID, handoff_ids, _ACTIVITIES["tasks"])
        return {str(a.handoff_id): a for a in self._activities("tasks", found.values())}

    def keyed_tasks(self, since: datetime) -> Iterator[Activity]:
        """See Crm."""
        key = {"propertyName": HANDOFF_ID, "operator": "HAS_PROPERTY"}
        wanted = _ACTIVITIES["tasks"]
        yield from self._activities("tasks", self._search("tasks", wanted, [key, _from("hs_createdate", since)]))
        for record in self._archived("tasks", wanted, since):  # deleted after it was created
            if record["properties"].get(HANDOFF_ID) and _created(record) >= since:
                yield _activity("tasks", record, None)

    def opportunities_since(self, since: datetime) -> set[str]:
        """See Crm."""
        stages = self._stages()
        deals = self._search("deals", _DEAL, [_changed(since)])
        return set(self._companies("deals", [d["id"] for d in deals if not _state(d, stages)[1]]).values())

    def gone_since(self, since: datetime) -> dict[str, str | None]:
        """See Crm. HubSpot makes a new company of two merged ones, and names in it those it was made of."""
        gone: dict[str, str | None] = {r["id"]: None for r in self._archived("companies", [], since)}
        merged = {"propertyName": _MERGED, "operator": "HAS_PROPERTY"}
        for record in self._search("companies", [_MERGED], [merged, _changed(since)]):
            gone |= dict.fromkeys(_merged(record), record["id"])
        return gone

    def contacts(self, emails: Collection[str]) -> dict[str, str]:
        """See Crm."""
        known = self._read("contacts", sorted({e.strip().lower() for e in emails if e.strip()}), "email", ["email"])
        return {r["properties"]["email"].lower(): r["id"] for r in known if r["properties"].get("email")}

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    def check_fields(self) -> None:
        """See Crm."""
        if self._checked:
            return
        problems = []
        for thing, wanted in fields.PROPERTIES.items():
            there = self._defined(thing)
            for definition in wanted:
                name = definition["name"]
                if name not in there:
                    problems.append(f"{thing}.{name} is missing")
                elif (there[name].get("modificationMetadata") or {}).get("readOnlyValue"):
                    problems.append(f"{thing}.{name} may not be written")
                elif definition.get("hasUniqueValue") and not there[name].get("hasUniqueValue"):
                    problems.append(f"{thing}.{name} is not unique")
        if problems:
            raise FieldsMissing(
                f"HubSpot: {', '.join(problems)}; create them (onetouch crm check --create, or docs/hubspot.md)"
            )
        self._checked = True

    def create_fields(self) -> list[str]:
        """Creates our properties that are missing, in a group of their own. Returns their names (tasks.onetouch_…)."""
        made = []
        for thing, wanted in fields.PROPERTIES.items():
            there = self._defined(thing)
            missing = [definition for definition in wanted if definition["name"] not in there]
            if not missing:
                continue
            group = {"name": fields.GROUP, "label": fields.GROUP.capitalize()}
            self._unless_there(self._wire.property_groups.create, thing, group)
            for definition in missing:
                self._unless_there(self._wire.properties.create, thing, definition)
                made.append(f"{thing}.{definition['name']}")
        self._checked = False
        return made

    def ensure_accounts(self, rows: Mapping[str, Row], kind: str) -> dict[str, Outcome]:
        """See Crm. A lead is a company in the lifecycle stage lead. One of ours that was deleted is not made again.

        Search knows a company some seconds after it was made: one that a rep makes at that very moment may be missed.
        """
        if not rows:
            return {}
        self.check_fields()
        outcomes = self._made("companies", ACCOUNT_ID, rows)
        adopted = self._of_domain({a: row for a, row in rows.items() if a not in outcomes})
        named = self._update("companies", {i: {ACCOUNT_ID: account_id} for account_id, i in adopted.items()})
        outcomes |= {account_id: named[i] for account_id, i in adopted.items()}
        new = {a: {"properties": _company(a, row, kind)} for a, row in rows.items() if a not in outcomes}
        return outcomes | self._create("companies", ACCOUNT_ID, new, sent=bool(adopted))

    def update_accounts(self, rows: Mapping[str, Row]) -> dict[str, Outcome]:
        """See Crm."""
        if rows:
            self.check_fields()
        return self._update("companies", {i: fields.company_properties(row) for i, row in rows.items()})

    def create_tasks(self, rows: Mapping[str, Row], unsure: Collection[str] = ()) -> dict[str, Outcome]:
        """See Crm."""
        if not rows:
            return {}
        self.check_fields()
        outcomes = self._made("tasks", HANDOFF_ID, [h for h in unsure if h in rows])
        new = {
            h: {
                "properties": fields.task_properties(rows[h]) | {HANDOFF_ID: h},
                "associations": fields.task_associations(rows[h]),
            }
            for h in rows
            if h not in outcomes
        }
        return outcomes | self._create("tasks", HANDOFF_ID, new)

    def close_tasks(self, reasons: Mapping[str, tuple[str, str]]) -> dict[str, Outcome]:
        """See Crm."""
        outcomes = {handoff_id: Outcome(ok=True) for handoff_id in reasons}
        live = self._read("tasks", sorted(reasons), HANDOFF_ID, _ACTIVITIES["tasks"])
        found = {record["properties"][HANDOFF_ID]: record for record in live}
        changes: dict[str, dict[str, str]] = {}
        by_rep: set[str] = set()
        for handoff_id, record in found.items():
            task, body = _activity("tasks", record, None), record["properties"].get("hs_task_body") or ""
            label, reason = reasons[handoff_id]
            note = f"{label.strip('[] ')}: {reason}"
            outcomes[handoff_id] = Outcome(ok=True, id=task.activity_id, by_rep=task.is_done and not task.closed_by_us)
            if outcomes[handoff_id].by_rep:
                by_rep.add(task.activity_id)
                if label == RELEASED and not task.description.startswith(note):
                    changes[task.activity_id] = {"hs_task_body": fields.noted(note, body)}
            elif not task.closed_by_us:
                changes[task.activity_id] = {
                    "hs_task_status": "COMPLETED",
                    "hs_task_subject": f"{label}{task.subject}"[: fields.SUBJECT_CHARS].rstrip(),
                    "hs_task_body": fields.noted(note, body),
                }
        ids = {record["id"]: handoff_id for handoff_id, record in found.items()}
        for task_id, outcome in self._update("tasks", changes).items():
            ok = outcome.ok or outcome.deleted
            outcomes[ids[task_id]] = replace(outcome, ok=ok, by_rep=task_id in by_rep)
        return outcomes

    # ── creating and updating ────────────────────────────────────────────────────────────────────

    def _create(self, thing: str, key: str, inputs: Mapping[str, Row], *, sent: bool = False) -> dict[str, Outcome]:
        """Creates a record of each input under its unique value of `key`; one that is there is adopted as it is.

        Each batch is sent until it is answered, and before it is sent again the records are looked for.
        """

        def send(part: list[str], outcomes: dict[str, Outcome]) -> None:
            def attempt() -> None:
                left = [k for k in part if k not in outcomes]
                try:
                    self._send("create", thing, {k: inputs[k] for k in left}, outcomes)
                except Busy:
                    raise
                except Unreachable:
                    outcomes.update(self._made(thing, key, [k for k in left if k not in outcomes]))
                    if not all(k in outcomes for k in left):
                        raise

            self._wire.retrying(Unreachable)(attempt)
            # Whatever was refused may be there already: it has our value then, whichever way HubSpot says so.
            refused = [k for k in part if not outcomes[k].ok]
            try:
                outcomes.update(self._made(thing, key, refused))
            except CrmError:
                outcomes.update({k: replace(outcomes[k], retryable=True) for k in refused})
                raise

        return _by_parts(sorted(inputs), send, sent=sent)

    def _update(self, thing: str, changes: Mapping[str, Mapping[str, str]]) -> dict[str, Outcome]:
        """Sets properties of records, id → properties. May be repeated without harm."""

        def send(part: list[str], outcomes: dict[str, Outcome]) -> None:
            self._send("update", thing, {i: {"id": i, "properties": dict(changes[i])} for i in part}, outcomes)
            self._follow(thing, [i for i in part if outcomes[i].code == UNKNOWN], outcomes)

        return _by_parts(sorted(changes), send)

    def _send(self, what: str, thing: str, inputs: Mapping[str, Row], outcomes: dict[str, Outcome]) -> None:
        """One batch; outcomes are noted as they come. One refused as a whole is sent again in halves.

        Every input has a trace id, with which HubSpot tells of each by itself instead of refusing all for one.
        """
        request = getattr(self._wire.batch, what)
        body = {"inputs": [row | {"objectWriteTraceId": key} for key, row in inputs.items()]}
        try:
            answer = self._wire.call(request, thing, body, repeat=what == "update")
        except Refused as refused:
            if refused.status == 403:
                raise
            keys = list(inputs)
            if len(keys) == 1:
                reason = str(refused).removeprefix(f"HubSpot: {refused.status} {refused.code}: ")
                outcomes[keys[0]] = _refusal(refused.code, reason)
                return
            for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
                self._send(what, thing, {key: inputs[key] for key in half}, outcomes)
            return
        ids = {str(row.get("id")): key for key, row in inputs.items()}
        for record in answer.get("results") or []:
            key = record.get("objectWriteTraceId") or ids.get(str(record["id"])) or _value_of(record, inputs)
            if key is not None and key in inputs:
                outcomes[key] = Outcome(ok=True, id=str(record["id"]))
        for error in answer.get("errors") or []:
            context = error.get("context") or {}
            for key in [*context.get("objectWriteTraceId", []), *(ids.get(str(i)) for i in context.get("ids", []))]:
                if key in inputs:
                    outcomes[key] = _refusal(str(error.get("category") or "UNKNOWN_ERROR"), said(error))
        for key in inputs:
            message = "HubSpot told nothing of it"
            outcomes.setdefault(key, Outcome(ok=False, code=UNKNOWN, message=message, retryable=True))

    def _made(self, thing: str, key: str, values: Iterable[str]) -> dict[str, Outcome]:
        """Those of the unique values that a record has, deleted ones too."""
        found = self._keyed(thing, key, values, [key])
        return {v: Outcome(ok=True, id=r["id"], deleted=bool(r.get("archived"))) for v, r in found.items()}

    def _follow(self, thing: str, ids: Sequence[str], outcomes: dict[str, Outcome]) -> None:
        """Records an update left out: HubSpot does so with those merged into another, which the old id leads to."""
        for old in ids:
            new = [record["id"] for record in self._read(thing, [old])]
            if not new:
                outcomes[old] = replace(_refusal(_NOT_FOUND, "no longer there"), deleted=True)
            elif new != [old]:
                outcomes[old] = Outcome(ok=False, code="MERGED", message=f"is in {new[0]} now", retryable=True)

    def _of_domain(self, rows: Mapping[str, Row]) -> dict[str, str]:
        """Account id → company of the same domain that is no other account's; the oldest of several."""
        domains = sorted({_domain(row) for row in rows.values()} - {""})
        free: dict[str, list[str]] = {}
        for part in _parts(domains, BATCH, _SEARCH_CHARS):
            among = {"propertyName": "domain", "operator": "IN", "values": part}
            nobodys = {"propertyName": ACCOUNT_ID, "operator": "NOT_HAS_PROPERTY"}
            for record in self._search("companies", ["domain", ACCOUNT_ID], [among, nobodys]):
                free.setdefault(record["properties"]["domain"], []).append(record["id"])
        found: dict[str, str] = {}
        for account_id in sorted(rows):
            if companies := free.get(_domain(rows[account_id])):
                found[account_id] = companies.pop(0)
        return found

    def _unless_there(self, request: Callable[..., Any], thing: str, definition: Row) -> None:
        try:
            self._wire.call(request, thing, definition)
        except Refused as refused:
            if refused.status != 409:
                raise

    # ── records ──────────────────────────────────────────────────────────────────────────────────

    def _read(
        self,
        thing: str,
        ids: Sequence[str],
        key: str | None = None,
        wanted: Sequence[str] = (),
    ) -> list[Record]:
        """The records of ids, or of unique values of the property `key`; those that are not there are left out."""
        found: list[Record] = []
        for part in _parts(ids, BATCH):
            body: Row = {"inputs": [{"id": i} for i in part], "propertiesWithHistory": []}
            body["properties"] = list(wanted)
            if key:
                body["idProperty"] = key
            answer = self._wire.call(self._wire.batch.read, thing, body)
            _check(answer)
            found += answer["results"]
        return found

    def _keyed(self, thing: str, key: str, values: Iterable[str], wanted: Sequence[str]) -> dict[str, Record]:
        """Unique value → the record that has it; a deleted one only when there is no other.

        Deleted ones are read from their list: that they can be asked for by a unique value is nowhere promised.
        """
        asked = sorted(set(values))
        found = {r["properties"][key]: r for r in self._read(thing, asked, key, wanted)}
        missing = {value for value in asked if value not in found}
        if missing:
            deleted = self._list(thing, wanted, archived=True)
            found |= {r["properties"][key]: r for r in deleted if r["properties"].get(key) in missing}
        return found

    def _search(self, thing: str, wanted: Sequence[str], *groups: list[Filter]) -> Iterator[Record]:
        """Records that fit one of the groups of filters, in the order of their ids.

        Each page begins after the last id, not at an offset: search pages no further than 10,000 records.
        """
        last = "0"
        while True:
            after = {"propertyName": "hs_object_id", "operator": "GT", "value": last}
            body = {
                "filterGroups": [{"filters": [*group, after]} for group in groups],
                "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
                "properties": list(dict.fromkeys(wanted)),
                "limit": _SEARCH_PAGE,
            }
            records = self._wire.call(self._wire.search.do_search, thing, body)["results"]
            yield from records
            if len(records) < _SEARCH_PAGE:
                return
            last = records[-1]["id"]

    def _list(self, thing: str, wanted: Sequence[str], *, archived: bool = False) -> Iterator[Record]:
        """All records, or all deleted ones (HubSpot keeps them for 90 days)."""
        properties = list(dict.fromkeys(wanted))
        yield from self._pages(
            self._wire.records.get_page, thing, limit=_LIST_PAGE, properties=properties, archived=_flag(archived)
        )

    def _archived(self, thing: str, wanted: Sequence[str], since: datetime) -> Iterator[Record]:
        """Records deleted at or after `since`."""
        for record in self._list(thing, wanted, archived=True):
            at = moment(record.get("archivedAt"))
            if at is None or at >= since:
                yield record

    def _pages(self, request: Callable[..., Any], *given: Any, **query: Any) -> Iterator[Record]:
        after: str | None = None
        while True:
            page = self._wire.call(request, *given, **query | ({"after": after} if after else {}))
            yield from page["results"]
            after = ((page.get("paging") or {}).get("next") or {}).get("after")
            if not after:
                return

    def _companies(self, thing: str, ids: Sequence[str]) -> dict[str, str]:
        """Record → the company it belongs to: the primary one, else the one that was there first."""
        found: dict[str, str] = {}
        for part in _parts(ids, _ASSOCIATIONS):
            body = {"inputs": [{"id": i} for i in part]}
            answer = self._wire.call(self._wire.associations.get_page, thing, "companies", body)
            _check(answer)
            for record in answer["results"]:
                links = sorted(record["to"], key=lambda link: (not _is_primary(link), int(link["toObjectId"])))
                if links:
                    found[str(record["from"]["id"])] = str(links[0]["toObjectId"])
        return found

    def _activities(self, thing: str, records: Iterable[Record]) -> Iterator[Activity]:
        for part in _parts(records, _ASSOCIATIONS):
            live = [record["id"] for record in part if not record.get("archived")]
            companies = self._companies(thing, live)
            for record in part:
                yield _activity(thing, record, companies.get(record["id"]))

    def _defined(self, thing: str) -> dict[str, Record]:
        answer = self._wire.call(self._wire.properties.get_all, thing)
        return {definition["name"]: definition for definition in answer["results"]}

    def _stages(self) -> dict[str, Record]:
        """Deal stages of all pipelines, by id."""
        answer = self._wire.call(self._wire.pipelines.get_all, "deals")
        return {stage["id"]: stage for pipeline in answer["results"] for stage in pipeline["stages"]}

    def _timezones(self) -> dict[str, str]:
        """User → time zone; empty when the app may not read users."""
        wanted = ["hs_internal_user_id", "hs_standard_time_zone"]
        try:
            users = [record["properties"] for record in self._list("users", wanted)]
        except Refused as refused:
            if refused.status != 403:
                raise
            return {}
        zones = ((user.get("hs_internal_user_id"), user.get("hs_standard_time_zone")) for user in users)
        return {str(user): zone for user, zone in zones if user and zone}


def _by_parts(
    keys: Sequence[str], send: Callable[[list[str], dict[str, Outcome]], None], *, sent: bool = False
) -> dict[str, Outcome]:
    """Sends rows batch by batch and gives every row's outcome, whatever stops it on the way.

    Only when nothing was sent at all does the error go to the caller.
    """
    outcomes: dict[str, Outcome] = {}
    parts = list(_parts(keys, BATCH))
    for number, part in enumerate(parts):
        try:
            send(part, outcomes)
        except CrmError as error:
            unanswered = isinstance(error, Unreachable) and not isinstance(error, Busy)
            if not (sent or outcomes or number or unanswered):
                raise
            code = "REQUEST_LIMIT_EXCEEDED" if isinstance(error, LimitReached) else "NOT_SENT"
            for key in part:
                told = Outcome(ok=False, code=UNKNOWN if unanswered else code, message=str(error), retryable=True)
                outcomes.setdefault(key, told)
            for key in (key for later in parts[number + 1 :] for key in later):
                outcomes[key] = Outcome(ok=False, code=code, message=str(error), retryable=True)
            break
    return outcomes


def _parts(items: Iterable[Any], size: int, chars: int | None = None) -> Iterator[list[Any]]:
    """Runs of at most `size` items, and of at most `chars` characters when they are texts."""
    part: list[Any] = []
    length = 0
    for item in items:
        more = len(item) + 4 if chars else 0
        if part and (len(part) == size or (chars and length + more > chars)):
            yield part
            part, length = [], 0
        part.append(item)
        length += more
    if part:
        yield part


def _flag(value: bool) -> str:
    """A boolean of a query; the client would write it as Python does."""
    return str(value).lower()


def _check(answer: Mapping[str, Any]) -> None:
    """Raises Refused unless all that is wrong with a batch that was read is that some are not there."""
    for error in answer.get("errors") or []:
        if error.get("category") != _NOT_FOUND and error.get("subCategory") != _NO_ASSOCIATIONS:
            raise Refused(f"HubSpot: {error.get('category')}: {said(error)}")


def _refusal(code: str, message: str) -> Outcome:
    return Outcome(ok=False, code=code, message=message, deleted=code == _NOT_FOUND, retryable=code in _PASSING)


def _value_of(record: Record, inputs: Mapping[str, Row]) -> str | None:
    """Our unique value in an answer, when it has no trace id."""
    values = {str(value) for value in (record.get("properties") or {}).values()}
    return next((key for key in inputs if key in values), None)


def _changed(since: datetime) -> Filter:
    return _from("hs_lastmodifieddate", since)


def _from(name: str, since: datetime) -> Filter:
    return {"propertyName": name, "operator": "GTE", "value": fields.milliseconds(since)}


def _merged(record: Record) -> list[str]:
    """Ids of the records this one was made of."""
    ids = (record["properties"].get(_MERGED) or "").split(";")
    return [i for i in ids if i and i != record["id"]]


def _created(record: Record) -> datetime:
    at = moment(record.get("createdAt"))
    if at is None:
        raise Refused(f"HubSpot: record {record.get('id')} has no createdAt")
    return at


def _account(record: Record, columns: Mapping[str, str]) -> Row:
    properties = record["properties"]
    return {
        "crm_account_id": record["id"],
        "owner_id": properties.get("hubspot_owner_id"),
        "account_id": properties.get(ACCOUNT_ID),
        "created_at": _created(record),
        "is_deleted": bool(record.get("archived")),
        "merged_into": None,
    } | {column: properties.get(name) for column, name in columns.items()}


def _state(deal: Record, stages: Mapping[str, Record]) -> tuple[str | None, bool, bool]:
    """A deal's stage in words, whether it is closed, whether it is won."""
    properties = deal["properties"]
    stage = stages.get(properties.get("dealstage") or "", {})
    told = stage.get("metadata") or {}
    closed = str(properties.get("hs_is_closed") or told.get("isClosed")).lower() == "true"
    won = properties.get("hs_is_closed_won") or (closed and float(told.get("probability") or 0) == 1)
    return stage.get("label") or properties.get("dealstage"), closed, closed and str(won).lower() == "true"


def _opportunity(deal: Record, company: str | None, stages: Mapping[str, Record]) -> Row:
    properties, (stage, closed, won) = deal["properties"], _state(deal, stages)
    return {
        "opportunity_id": deal["id"],
        "crm_account_id": company,
        "stage": stage,
        "is_closed": closed,
        "is_won": won,
        "amount": float(properties["amount"]) if properties.get("amount") else None,
        "created_at": _created(deal),
        "closed_at": moment(properties.get("closedate")) if closed else None,
        "lead_source": properties.get("hs_analytics_source"),
        "owner_id": properties.get("hubspot_owner_id"),
        "changed_at": moment(deal.get("archivedAt") or properties.get("hs_lastmodifieddate") or deal.get("updatedAt")),
        "is_deleted": bool(deal.get("archived")),
    }


def _activity(thing: str, record: Record, company: str | None) -> Activity:
    properties = record["properties"]
    changed = moment(record.get("archivedAt") or properties.get("hs_lastmodifieddate") or record.get("updatedAt"))
    created, at = _created(record), moment(properties.get("hs_timestamp"))
    if thing == "tasks":
        title, body, done = "hs_task_subject", "hs_task_body", properties.get("hs_task_status") == "COMPLETED"
        at = moment(properties.get("hs_task_completion_date")) or changed
    elif thing == "calls":
        title, body, done = "hs_call_title", "hs_call_body", properties.get("hs_call_status") not in _NO_CALL
    elif thing == "emails":
        title, body, done = "hs_email_subject", "hs_email_text", properties.get("hs_email_status") not in _NO_EMAIL
    else:
        title, body, done = (
            "hs_meeting_title",
            "hs_meeting_body",
            properties.get("hs_meeting_outcome") not in _NO_MEETING,
        )
        at = moment(properties.get("hs_meeting_end_time")) or at
    return Activity(
        activity_id=record["id"],
        kind=thing.removesuffix("s"),
        crm_account_id=company,
        owner_id=properties.get("hubspot_owner_id"),
        subject=properties.get(title) or "",
        description=fields.text_of(properties.get(body)),
        is_done=done,
        is_deleted=bool(record.get("archived")),
        created_at=created,
        done_at=(at or created) if done else None,
        changed_at=changed or created,
        handoff_id=properties.get(HANDOFF_ID),
        outcome=properties.get(OUTCOME),
        disposition=properties.get(DISPOSITION),
    )


def _from_customer(record: Record) -> bool:
    return bool(record["properties"].get("hs_email_direction") == "INCOMING_EMAIL")


def _is_primary(link: Record) -> bool:
    return any(kind.get("typeId") == _PRIMARY for kind in link.get("associationTypes") or [])


def _company(account_id: str, row: Row, kind: str) -> dict[str, str]:
    properties = {
        ACCOUNT_ID: account_id,
        "name": row.get("name"),
        "domain": _domain(row),
        "hubspot_owner_id": row.get("owner_id"),
        "lifecyclestage": "lead" if kind == "lead" else None,
    }
    return {name: str(value) for name, value in properties.items() if value}


def _domain(row: Row) -> str:
    return str(row.get("domain") or "").strip().lower().removeprefix("www.")
