"""Reads HubSpot's records, all pages: by id, by unique value, by search, and deleted ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from onetouch.crm.hubspot.fields import datetime_of
from onetouch.crm.hubspot.transport import Transport, said
from onetouch.crm.protocol import Refused

BATCH = 100
"""Most records of a batch."""

_ASSOCIATIONS = 1_000
"""Records whose associations are requested at once."""

_SEARCH_PAGE, _LIST_PAGE, _OWNER_PAGE = 200, 100, 500

_PRIMARY = {1, 5}
"""HubSpot's association types of the primary company, of a contact and of a deal."""

NOT_FOUND = "OBJECT_NOT_FOUND"
_NO_ASSOCIATIONS = "crm.associations.NO_ASSOCIATIONS_FOUND"

Record = dict[str, Any]
Filter = dict[str, Any]


class Records:
    """Records of one account: {"id", "properties", "createdAt", "updatedAt", "archived", "archivedAt"}."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def of_ids(
        self, thing: str, ids: Iterable[str], wanted: Sequence[str] = (), *, key: str | None = None
    ) -> list[Record]:
        """The records with these ids, or these values of the unique property `key`; missing records are left out."""
        found: list[Record] = []
        for part in parts(ids, BATCH):
            body = {"inputs": [{"id": i} for i in part], "properties": list(wanted), "propertiesWithHistory": []}
            if key:
                body["idProperty"] = key
            answer = self._transport.call(self._transport.batch.read, thing, body)
            _check(answer)
            found += answer["results"]
        return found

    def of_values(self, thing: str, key: str, values: Iterable[str], wanted: Sequence[str]) -> dict[str, Record]:
        """Unique value → the record that has it; a deleted record only when no other has the value.

        Deleted records are read from the list of archived records: HubSpot does not document that they can be read by
        a unique value.
        """
        asked = sorted(set(values))
        found = {record["properties"][key]: record for record in self.of_ids(thing, asked, wanted, key=key)}
        missing = {value for value in asked if value not in found}
        if missing:
            deleted = self.all(thing, wanted, deleted=True)
            found |= {r["properties"][key]: r for r in deleted if r["properties"].get(key) in missing}
        return found

    def search(self, thing: str, wanted: Sequence[str], *groups: list[Filter]) -> Iterator[Record]:
        """Records that match one of the groups of filters, in the order of their ids.

        Each page begins after the last id of the previous page, not at an offset: a search returns at most 10,000
        records.
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
            records = self._transport.call(self._transport.search.do_search, thing, body)["results"]
            yield from records
            if len(records) < _SEARCH_PAGE:
                return
            last = records[-1]["id"]

    def last(self, thing: str, name: str, *groups: list[Filter]) -> Record | None:
        """Of the records that match one of the groups the one with the greatest value of a property, and it."""
        body = {
            "filterGroups": [{"filters": group} for group in groups],
            "sorts": [{"propertyName": name, "direction": "DESCENDING"}],
            "properties": [name],
            "limit": 1,
        }
        records = self._transport.call(self._transport.search.do_search, thing, body)["results"]
        return records[0] if records else None

    def all(self, thing: str, wanted: Sequence[str], *, deleted: bool = False) -> Iterator[Record]:
        """All records, or all deleted records (HubSpot keeps those for 90 days)."""
        properties = list(dict.fromkeys(wanted))
        yield from self._pages(
            self._transport.records.get_page, thing, limit=_LIST_PAGE, properties=properties, archived=_flag(deleted)
        )

    def deleted_since(self, thing: str, wanted: Sequence[str], since: datetime) -> Iterator[Record]:
        """Records deleted at or after `since`."""
        for record in self.all(thing, wanted, deleted=True):
            at = datetime_of(record.get("archivedAt"))
            if at is None or at >= since:
                yield record

    def companies_of(self, thing: str, ids: Iterable[str]) -> dict[str, str]:
        """Record → the company it belongs to: the primary company, else the one with the lowest id."""
        return {record: companies[0] for record, companies in self.all_companies_of(thing, ids).items()}

    def all_companies_of(self, thing: str, ids: Iterable[str]) -> dict[str, list[str]]:
        """Record → the companies it belongs to: the primary company first, then by their ids."""
        return self._linked(thing, "companies", ids)

    def companies_through_contacts(self, thing: str, ids: Iterable[str]) -> dict[str, str]:
        """Record → the company of a contact that it belongs to, for records that belong to no company themselves."""
        contacts = self._linked(thing, "contacts", ids)
        companies = self.companies_of("contacts", {i for theirs in contacts.values() for i in theirs})
        found = {record: [companies[i] for i in theirs if i in companies] for record, theirs in contacts.items()}
        return {record: theirs[0] for record, theirs in found.items() if theirs}

    def _linked(self, thing: str, to: str, ids: Iterable[str]) -> dict[str, list[str]]:
        """Record → the records of another kind that it is associated with: the primary one first, then by their ids."""
        found: dict[str, list[str]] = {}
        for part in parts(ids, _ASSOCIATIONS):
            body = {"inputs": [{"id": i} for i in part]}
            answer = self._transport.call(self._transport.associations.get_page, thing, to, body)
            _check(answer)
            for record in answer["results"]:
                links = sorted(record["to"], key=lambda link: (not _is_primary(link), int(link["toObjectId"])))
                if links:
                    linked = dict.fromkeys(str(link["toObjectId"]) for link in links)
                    found[str(record["from"]["id"])] = list(linked)
        return found

    def contacts_of(self, companies: Iterable[str]) -> set[str]:
        """The contacts of these companies; those of a company with many come in several answers."""
        found: set[str] = set()
        waiting: list[dict[str, str]] = [{"id": i} for i in sorted(set(companies))]
        while waiting:
            part, waiting = waiting[:_ASSOCIATIONS], waiting[_ASSOCIATIONS:]
            answer = self._transport.call(
                self._transport.associations.get_page, "companies", "contacts", {"inputs": part}
            )
            _check(answer)
            for record in answer["results"]:
                found |= {str(link["toObjectId"]) for link in record["to"]}
                after = ((record.get("paging") or {}).get("next") or {}).get("after")
                waiting += [{"id": str(record["from"]["id"]), "after": after}] if after else []
        return found

    def owners(self, *, deleted: bool) -> Iterator[Record]:
        """The users who may own records, or with `deleted` the owners who have left."""
        yield from self._pages(self._transport.owners.get_page, limit=_OWNER_PAGE, archived=_flag(deleted))

    def definitions(self, thing: str) -> dict[str, Record]:
        """Property → its definition."""
        answer = self._transport.call(self._transport.properties.get_all, thing)
        return {definition["name"]: definition for definition in answer["results"]}

    def stages(self) -> dict[str, Record]:
        """Deal stages of all pipelines, by id."""
        answer = self._transport.call(self._transport.pipelines.get_all, "deals")
        return {stage["id"]: stage for pipeline in answer["results"] for stage in pipeline["stages"]}

    def first_stage(self) -> tuple[str, str]:
        """The first pipeline of deals and its first open stage, as people see them ordered."""
        pipelines = self._transport.call(self._transport.pipelines.get_all, "deals")["results"]
        first = min(pipelines, key=lambda pipeline: pipeline.get("displayOrder", 0))
        is_open = [s for s in first["stages"] if str((s.get("metadata") or {}).get("isClosed")).lower() != "true"]
        return str(first["id"]), str(min(is_open, key=lambda stage: stage.get("displayOrder", 0))["id"])

    def _pages(self, request: Callable[..., Any], *given: Any, **query: Any) -> Iterator[Record]:
        after: str | None = None
        while True:
            page = self._transport.call(request, *given, **query | ({"after": after} if after else {}))
            yield from page["results"]
            after = ((page.get("paging") or {}).get("next") or {}).get("after")
            if not after:
                return


def parts(items: Iterable[Any], size: int, chars: int | None = None) -> Iterator[list[Any]]:
    """Chunks of at most `size` items, and of at most `chars` characters when the items are texts."""
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
    """A boolean in a query string, in lower case; the client would write it as Python does."""
    return str(value).lower()


def _check(answer: Mapping[str, Any]) -> None:
    """Raises Refused for any error of a batch read except missing records and missing associations."""
    for error in answer.get("errors") or []:
        if error.get("category") != NOT_FOUND and error.get("subCategory") != _NO_ASSOCIATIONS:
            raise Refused(f"HubSpot: {error.get('category')}: {said(error)}")


def _is_primary(link: Record) -> bool:
    kinds = link.get("associationTypes") or []
    return any(kind.get("typeId") in _PRIMARY and kind.get("category") != "USER_DEFINED" for kind in kinds)
