"""The supported CRMs, one line each; a client is imported only when used, since each needs a large library."""

from __future__ import annotations

import time
from collections.abc import Callable
from pkgutil import resolve_name

from onetouch.connections import Connection
from onetouch.crm.protocol import WRITES, Crm
from onetouch.policy import Policy, PolicyError, suggestion
from onetouch.stop import WhyStopped, never, stoppable

CRMS: dict[str, tuple[str, str]] = {
    "salesforce": ("salesforce_default", "onetouch.crm.salesforce:Salesforce"),
    "hubspot": ("hubspot_default", "onetouch.crm.hubspot:HubSpot"),
}
"""`crm.system` of the policy → the id of its connection, and the class that implements `Crm`."""


def check_system(policy: Policy, where: object = "policy") -> None:
    """Raises PolicyError, beginning with `where`, unless the policy's CRM is one of CRMS."""
    name = policy.crm.system
    if name not in CRMS:
        hint = suggestion(name, CRMS)
        raise PolicyError(f"{where}: crm.system: {name!r} is not allowed; {hint}allowed: {', '.join(CRMS)}")


def connection_id(policy: Policy) -> str:
    """The id of the connection to the policy's CRM."""
    check_system(policy)
    return CRMS[policy.crm.system][0]


def connect(
    connection: Connection,
    policy: Policy,
    *,
    stopped: WhyStopped = never,
    sleep: Callable[[float], None] = time.sleep,
) -> Crm:
    """A client of the policy's CRM, signed in when first used; it stops writing as soon as `stopped` gives a reason.

    `sleep` waits the seconds between two attempts. Raises ConnectionConfigError for a connection that cannot work.
    """
    check_system(policy)
    client: type[Crm] = resolve_name(CRMS[policy.crm.system][1])
    # Each client checks the stop before every request. The check here stops between two calls a client that does not.
    return stoppable(client.connect(connection, policy, stopped=stopped, sleep=sleep), WRITES, stopped)
