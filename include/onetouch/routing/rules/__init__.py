"""The rules of engagement in their order: the first that applies to an account decides.

Each rule is one file. To add a rule, add its file and its place in `RULES`; everything that depends on the rules is
derived from this list.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from onetouch.policy import Policy, PolicyError, problems, suggestion
from onetouch.routing.rule import Facts, Rules
from onetouch.routing.rules import (
    capacity,
    cooldown,
    friction,
    high_value_not_engaged,
    holdout,
    low_value_engaged,
    low_value_not_engaged,
    never_contact,
    never_interrupt,
    never_without_context,
    no_pql,
    one_touch,
    open_opportunity,
    queue_expired,
    refused,
    sales_now,
    stale_intent,
    tier_medium,
    value_floor,
)

RULES: Rules = (
    never_contact.RULE,
    holdout.RULE,
    never_interrupt.RULE,
    open_opportunity.RULE,
    one_touch.RULE,
    cooldown.RULE,
    value_floor.RULE,
    low_value_engaged.RULE,
    low_value_not_engaged.RULE,
    high_value_not_engaged.RULE,
    stale_intent.RULE,
    tier_medium.RULE,
    no_pql.RULE,
    friction.RULE,
    queue_expired.RULE,
    never_without_context.RULE,
    refused.RULE,
    capacity.RULE,
    sales_now.RULE,
)


def rules_of(policy: Policy, rules: Rules = RULES, where: str | None = None) -> Rules:
    """The rules that the policy has, in their order: all except rules with parameters whose section it lacks, and
    those that it does not have for another reason (`Rule.under`).

    Raises PolicyError for a section of an unknown rule or of a rule without parameters, and for parameters the rule
    does not allow. The message has one line each, beginning with `where` (the policy's file; None: its name).
    """
    own = {rule.section: rule.parameters for rule in rules if rule.parameters is not None}
    where = where or f"policy {policy.name}"
    wrong: list[str] = []
    for section, given in policy.routing.rules.items():
        at = ("routing", "rules", section)
        if section not in own:
            wrong.append(f"{where}: {'.'.join(at)}: {_unknown(section, list(own), rules)}")
            continue
        try:
            own[section].model_validate(given)
        except ValidationError as error:
            wrong += problems(error, where, own[section], at)
    if wrong:
        raise PolicyError("\n".join(wrong))
    return tuple(
        rule
        for rule in rules
        if (rule.parameters is None or rule.section in policy.routing.rules)
        and (rule.under is None or rule.under(policy))
    )


def _unknown(section: str, own: list[str], rules: Rules) -> str:
    if section in {rule.section for rule in rules}:
        return "this rule has no parameters of its own; remove it (docs/rules.md names the keys the rule reads)"
    hint = suggestion(section, own).strip()
    return "no such rule; " + (hint or f"allowed: {', '.join(own) or 'none'}")


def first_match(facts: Facts, policy: Policy, rules: Rules) -> npt.NDArray[np.int64]:
    """The place in `rules` of the first rule that applies to each account; `len(rules)` where none does."""
    decided = np.full(len(facts), len(rules), dtype=np.int64)
    for place, rule in reversed(list(enumerate(rules))):
        decided[rule.applies(facts, policy)] = place
    return decided
