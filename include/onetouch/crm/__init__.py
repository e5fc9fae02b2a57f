"""One protocol for every CRM (`protocol`), and the CRMs that implement it (`registry`): Salesforce, HubSpot.

To add a CRM, write a client class that implements `Crm` in its own file or package, and add it to `registry.CRMS`.
"""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.crm.protocol import (
        CLOSED_BY_US,
        DISPOSITIONS,
        EXPIRED,
        LEFT_ALONE,
        MEETING,
        NOT_YET,
        OUTCOMES,
        RELEASED,
        UNKNOWN,
        WITHDRAWN,
        WRITES,
        Activity,
        CannotCreateFields,
        Crm,
        CrmError,
        FieldsMissing,
        LimitReached,
        OurWrites,
        Outcome,
        Refused,
        Row,
        SignInRefused,
        Tell,
        Thing,
        Unreachable,
        follow_up_key,
        is_set,
        left_alone,
        note,
    )
    from onetouch.crm.registry import CRMS, check_system, connect, connection_id
    from onetouch.crm.remedies import remedy
    from onetouch.crm.salesforce import HANDOFF_ID, REQUIRED_FIELDS
    from onetouch.crm.stored import context_of, opportunity_of, stored_payload, task_of

__all__ = [
    "HANDOFF_ID",
    "Activity",
    "CLOSED_BY_US",
    "CRMS",
    "CannotCreateFields",
    "Crm",
    "CrmError",
    "DISPOSITIONS",
    "EXPIRED",
    "FieldsMissing",
    "LEFT_ALONE",
    "LimitReached",
    "MEETING",
    "NOT_YET",
    "OUTCOMES",
    "OurWrites",
    "Outcome",
    "RELEASED",
    "REQUIRED_FIELDS",
    "Refused",
    "Row",
    "SignInRefused",
    "Tell",
    "Thing",
    "UNKNOWN",
    "Unreachable",
    "WITHDRAWN",
    "WRITES",
    "check_system",
    "connect",
    "connection_id",
    "context_of",
    "follow_up_key",
    "is_set",
    "left_alone",
    "note",
    "opportunity_of",
    "remedy",
    "stored_payload",
    "task_of",
]
show(__name__)
