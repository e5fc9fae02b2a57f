"""What a person can do about a row that the CRM has not taken, by the code of its refusal."""

from __future__ import annotations

from onetouch.crm.protocol import NOT_YET, UNKNOWN

_NOTHING = "nothing: the next run tries again"

_MENDED = "; it is offered again a day later, or by the next run after: onetouch outbox retry {key}"

_OF_CODE = {
    UNKNOWN: "nothing: the next run looks whether it has arrived, before it sends again",
    NOT_YET: _NOTHING,
    # Salesforce
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": "an admin: let the validation rule pass records of the integration user",
    "REQUIRED_FIELD_MISSING": "an admin: give the field a default value, or take the requirement out",
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": "an admin: add the value to the pick list",
    "DUPLICATES_DETECTED": "merge the records named, or give the right one the account's domain; or crm.duplicates",
    "INSUFFICIENT_ACCESS_OR_READONLY": "an admin: give the integration user access to the record",
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": "an admin: share the record with the integration user",
    "INVALID_FIELD_FOR_INSERT_UPDATE": "an admin: give the integration user the permission set Onetouch",
    "INACTIVE_OWNER_OR_USER": "nothing: another rep gets the account; an admin may move the inactive user's",
    "OP_WITH_INVALID_USER_TYPE_EXCEPTION": "an admin: give the owner a licence that may own it",
    "TRANSFER_REQUIRES_READ": "an admin: give the owner read access to the account",
    "STRING_TOO_LONG": "report it: a text that we wrote was too long",
    "UNABLE_TO_LOCK_ROW": _NOTHING,
    "ENTITY_IS_LOCKED": "nothing, once the approval process has ended: each run tries again until then",
    "APEX_LIMIT": "an admin: the org's own code needs too much for one record; each run tries again",
    "REQUEST_LIMIT_EXCEEDED": "nothing: tomorrow's calls are used for it",
    # HubSpot
    "VALIDATION_ERROR": "an admin: mend what the message names (a property, its values, an owner)",
    "CONFLICT": "an admin: another record has this unique value; merge or rename it",
    "MISSING_SCOPES": "an admin: give the private app the scope that the message names",
    # ours
    "NO_RECORD": "create the account in the CRM, or set crm.unknown_accounts",
    "NOT_SENT": _NOTHING,
}  # fmt: skip


def mend_of(code: str) -> str:
    """What an admin can do about a refusal with this code."""
    said = _OF_CODE.get(code, "")
    return said.removeprefix("an admin: ") if said.startswith("an admin: ") else "mend what the message names"


_WAITING = _NOTHING.replace("tries again", "sends it")


def remedy(key: str, state: str, reason: str) -> str:
    """What to do about an outbox row, in one line; `reason` begins with the code of the refusal, if there was one."""
    if state == "sent":
        return ""
    if state == "sending":
        return _OF_CODE[UNKNOWN]
    said = _OF_CODE.get(reason.partition(":")[0], "")
    if state != "failed":
        return said or (_NOTHING if reason else _WAITING)
    return (said or "mend what the reason names") + _MENDED.format(key=key)
