"""The nightly comparison of ledger and CRM: safe repairs are made, all other differences are reported to a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from onetouch.crm import Crm
from onetouch.crm_sync import Finding, compare, move_on
from onetouch.delivery.failure import DeliveryFailed
from onetouch.ledger import Ledger, Run
from onetouch.policy import Policy


def reconcile(ledger: Ledger, policy: Policy, run: Run, crm: Crm, *, held: str | None) -> dict[str, Any]:
    """Compares ledger and CRM (`crm_sync.compare`), repairs what is safe and reports the rest.

    With `held` (why nothing may be written) nothing is repaired and every difference is reported.

    Returns {"looked_at", "agreeing", "repaired": {what: n}, "reported": [{what, handoff_id, task_ids}], "held"}:
    looked_at = agreeing + repaired + reported. Raises DeliveryFailed with the same when a repair was refused, after
    all others.
    """
    compared = compare(ledger, policy, run, crm)
    findings = compared.findings
    safe = [] if held else [finding for finding in findings if finding.safe]
    refused = _repair(ledger, run, crm, safe, compared.emails)
    repaired = Counter(finding.what for finding in safe if finding.handoff_id not in refused)
    reported = [
        finding.told(refused.get(finding.handoff_id) or (f"not repaired: {held}" if finding.safe else ""))
        for finding in findings
        if not finding.safe or held or finding.handoff_id in refused
    ]
    summary = {
        "looked_at": compared.looked_at,
        "agreeing": compared.looked_at - len(findings),
        "repaired": dict(repaired),
        "reported": reported,
        "held": held,
    }
    if refused:
        named = [(f"handoff {handoff_id}", reason) for handoff_id, reason in refused.items()]
        raise DeliveryFailed("differences between ledger and CRM could not be repaired", summary, named)
    return summary


def _repair(
    ledger: Ledger, run: Run, crm: Crm, findings: Sequence[Finding], emails: Mapping[str, str | None]
) -> dict[str, str]:
    """Makes the safe repairs; returns handoff id → reason of those the CRM refused."""
    closing = {finding.handoff_id: finding.close for finding in findings if finding.close}
    outcomes = crm.close_tasks(closing) if closing else {}
    move_on(ledger, run, {finding.handoff_id: list(finding.moves) for finding in findings if finding.moves})
    for finding in findings:
        if finding.owner_id:
            ledger.reassign(finding.handoff_id, finding.owner_id, emails[finding.owner_id])
    return {handoff_id: outcome.reason for handoff_id, outcome in outcomes.items() if not outcome.ok}
