"""The stand-in as a HubSpot account: its records, and what reps do in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import requests
from onetouch.connections import Connection
from onetouch.crm.hubspot import HubSpot
from onetouch.crm.hubspot.fields import PROPERTIES
from onetouch.crm_sync import extract_crm
from onetouch.delivery import deliver_tasks
from tenacity import wait_none

AS_OF = datetime(2025, 11, 18, 10, tzinfo=UTC)
RITA, OTTO = "101", "102"
OWNERS = [
    {"id": RITA, "email": "rita@rep.example", "firstName": "Rita", "lastName": "Rep", "userId": 9101},
    {"id": OTTO, "email": "otto@rep.example", "firstName": "Otto", "archived": True},
]


class Portal:
    """The stand-in as a HubSpot account, and what reps do in it."""

    def __init__(self, org: Any, world: Any) -> None:
        self.org, self.world, self.url = org, world, org.url
        self.http = requests.Session()
        self.http.headers["Authorization"] = "Bearer pat-sandbox-token"

    def empty(self, properties: bool = True) -> None:
        self.http.delete(f"{self.url}/_sandbox/state", timeout=10).raise_for_status()
        self.org.clock(AS_OF)
        self.org.post("limits", {"hubspot_ten_seconds": 1e6, "hubspot_searches": 1e6})
        self.load(owners=OWNERS, properties=PROPERTIES if properties else {})

    def load(self, **document: Any) -> None:
        self.org.post("hubspot", document)

    def client(
        self, token: str = "pat-sandbox-token", sleep: Callable[[float], None] | None = None, **more: Any
    ) -> HubSpot:
        connection = Connection("hubspot_default", password=token, extra={"base_url": self.url})
        more.setdefault("contact_fields", dict(self.world.policy.crm.contact_fields))
        return HubSpot(connection, wait=wait_none(), sleep=sleep or (lambda _: None), **more)

    def post(self, path: str, body: Any) -> Any:
        answer = self.http.post(f"{self.url}/crm/{path}", json=body, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    def make(self, thing: str, company: str | None = None, *, contact: str = "", **properties: Any) -> str:
        types = {"tasks": 192, "calls": 182, "emails": 186, "meetings": 188, "deals": 341, "contacts": 279}
        body: dict[str, Any] = {"properties": properties}
        if company:
            kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": types[thing]}
            body["associations"] = [{"to": {"id": company}, "types": [kind]}]
        if contact:
            types = {"tasks": 204, "calls": 194, "emails": 198, "meetings": 200}
            kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": types[thing]}
            body.setdefault("associations", []).append({"to": {"id": contact}, "types": [kind]})
        return str(self.post(f"v3/objects/{thing}", body)["id"])

    def companies(self, *numbers: int) -> dict[int, str]:
        made = datetime(2025, 8, 1, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        rows = [
            {
                "id": 500 + n,
                "createdAt": made,
                "properties": {"name": f"Company {n}", "domain": f"company{n}.example", "hubspot_owner_id": RITA},
            }
            for n in numbers
        ]
        self.load(objects={"companies": rows})
        return {n: str(500 + n) for n in numbers}

    def write(self, thing: str, record: str, **properties: Any) -> None:
        url = f"{self.url}/crm/v3/objects/{thing}/{record}"
        self.http.patch(url, json={"properties": properties}, timeout=10).raise_for_status()

    def delete(self, thing: str, record: str) -> None:
        self.http.delete(f"{self.url}/crm/v3/objects/{thing}/{record}", timeout=10).raise_for_status()

    def records(self, thing: str) -> list[dict[str, Any]]:
        state = self.http.get(f"{self.url}/_sandbox/hubspot", timeout=10).json()
        return list(state.get(thing, []))

    def record(self, thing: str, **values: str) -> dict[str, Any]:
        (found,) = (r for r in self.records(thing) if values.items() <= (r["properties"] | {"id": r["id"]}).items())
        return found

    def fault(self, **spec: Any) -> None:
        self.org.post("faults", [spec])

    def requests(self, path: str) -> int:
        return sum(call["n"] for call in self.org.calls() if path in call["path"])

    # -- the pipeline

    def decide(self, run: Any, companies: dict[int, str]) -> None:
        self.world.decide(run, *companies, owner_id=RITA)
        for room in ("decisions", "signals"):
            rows = self.world.lake.read(room, f"{run.run_id}.parquet")
            rows["crm_account_id"] = list(companies.values())
            self.world.lake.write(rows, room, f"{run.run_id}.parquet")

    def deliver(self, run: Any) -> dict[str, Any]:
        world = self.world
        recheck = lambda ids: {i: why for i, why in world.rechecked.items() if i in ids}  # noqa: E731
        return deliver_tasks(world.lake, world.ledger, world.policy, run, self.client(), recheck=recheck, held=None)

    def extract(self, run: Any) -> dict[str, Any]:
        return extract_crm(self.world.lake, self.world.ledger, self.world.policy, run, self.client())
