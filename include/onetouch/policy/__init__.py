"""The rules of engagement: the keys and ranges of a policy file (`schema`), the defaults (`default.yaml`), and reading
policy files (`read`)."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.policy.lists import Entry, entries_in, host_of, is_host
    from onetouch.policy.naming import Overlay
    from onetouch.policy.plans import (
        SEATS,
        cost_nothing,
        limits_of_plans,
        plan_title,
        plan_with_features,
        plan_with_room,
        plan_with_seats,
        plans_after,
        plans_of,
        seat_price,
        unknown_plans,
    )
    from onetouch.policy.read import overlay, preset_document, problems, read_policy
    from onetouch.policy.reps import country_of, listed_reps, tasks_of, zone_of
    from onetouch.policy.review import conditions, former_names, review_policy
    from onetouch.policy.schema import (
        EXTRA_FACTS,
        FOR_CUSTOMER,
        NEXT_REP,
        Automation,
        Benchmark,
        ColumnName,
        Condition,
        Country,
        EventName,
        Events,
        Icp,
        Limits,
        Meaning,
        Part,
        Plan,
        Points,
        Policy,
        Product,
        Situation,
        SourceSettings,
        Territory,
        Timezone,
        Value,
        WorkingTime,
        entry_of,
        suggestion,
    )
    from onetouch.policy.texts import names, pieces, sentences
    from onetouch.policy.upgrade import FORMAT, current_name, read_stored, renamed, renames, stored
    from onetouch.policy.written import PolicyError

__all__ = [
    "is_host",
    "host_of",
    "entries_in",
    "Entry",
    "Automation",
    "Benchmark",
    "ColumnName",
    "Condition",
    "Country",
    "EXTRA_FACTS",
    "EventName",
    "Events",
    "FORMAT",
    "FOR_CUSTOMER",
    "Icp",
    "Limits",
    "Meaning",
    "Overlay",
    "NEXT_REP",
    "Part",
    "Plan",
    "Points",
    "Policy",
    "PolicyError",
    "Product",
    "SEATS",
    "Situation",
    "SourceSettings",
    "Territory",
    "Timezone",
    "Value",
    "WorkingTime",
    "conditions",
    "cost_nothing",
    "country_of",
    "current_name",
    "entry_of",
    "former_names",
    "limits_of_plans",
    "listed_reps",
    "names",
    "overlay",
    "pieces",
    "plan_title",
    "plan_with_features",
    "plan_with_room",
    "plan_with_seats",
    "plans_after",
    "plans_of",
    "preset_document",
    "problems",
    "read_policy",
    "read_stored",
    "renamed",
    "renames",
    "review_policy",
    "seat_price",
    "sentences",
    "stored",
    "suggestion",
    "tasks_of",
    "unknown_plans",
    "zone_of",
]
show(__name__)
