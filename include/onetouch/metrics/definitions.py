"""The meaning of each figure in the weekly report: formula, benchmark, and which decision depends on it.

Numbers (days, ranges) come from the policy; `benchmark` is a key of `policy.report.benchmarks`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """One metric: `numerator` divided by `denominator`; a count has no denominator."""

    name: str
    title: str
    numerator: str
    denominator: str | None
    benchmark: str | None
    source: str
    decides: str


DEFINITIONS = {
    definition.name: definition
    for definition in (
        Definition(
            "pqls",
            "PQLs handed to sales",
            "handoffs decided in the ISO week, UTC",
            None,
            "pqls_per_rep_month",
            "S0 S4",
            "whether the definition finds too many or too few; how many reps it fills",
        ),
        Definition(
            "touched",
            "Touched by a rep",
            "those with a touch logged in time",
            "handoffs decided long enough ago to have expired untouched",
            None,
            "S4",
            "whether reps work the tasks at all",
        ),
        Definition(
            "replied",
            "Replied",
            "those with a logged reply, or an opportunity after the touch, in time",
            "handoffs decided long enough ago to have been released unanswered",
            None,
            "S4",
            "whether the message is worth answering",
        ),
        Definition(
            "pql_to_opportunity",
            "Became an opportunity",
            "those whose account had an opportunity created after the decision, in time",
            "handoffs decided at least that many days ago",
            "pql_to_opportunity",
            "S3 S4",
            "whether PQLs are sales-ready",
        ),
        Definition(
            "pql_to_close",
            "Closed won",
            "those whose account had an opportunity created after the decision and won in time",
            "handoffs decided at least that many days ago",
            "pql_to_close",
            "S0 S2 S4",
            "whether the PQL definition is too loose or too tight",
        ),
        Definition(
            "meeting",
            "Meetings booked",
            "those with a touch whose outcome is a booked meeting, in time",
            "handoffs decided long enough ago to have been released unanswered",
            None,
            "S4",
            "whether timing and channel fit",
        ),
        Definition(
            "sla_adherence",
            "Touched in time",
            "those touched at or before the due time",
            "handoffs due in the weeks shown, without those withdrawn before they were due",
            "sla_adherence",
            "S2 S4; the range is ours",
            "whether routing and capacity work",
        ),
        Definition(
            "sales_assisted_share",
            "Sales-assisted share of new revenue",
            "ARR of opportunities won after a handoff, closed in the weeks shown",
            "the same plus the ARR customers added by upgrading themselves in these weeks",
            "sales_assisted_share",
            "S0",
            "whether sales adds revenue or takes over what would have come by itself",
        ),
    )
}
