"""What happens to handoffs in the fault simulator is a path of the model."""

from __future__ import annotations

import pytest

from judges.model.state import ABSENT, Visible
from judges.model.traces import Changes, changes, trace

SEEDS = (*range(18), 70, 76)
"""The last two need a bound with a call, an answer and a deleted account at once."""


@pytest.fixture(scope="module")
def allowed() -> Changes:
    return changes()


@pytest.mark.timeout(900)
def test_histories_are_paths_of_the_model(allowed: Changes) -> None:
    traces = [trace(seed, allowed) for seed in SEEDS]
    assert {one.seed: one.strange for one in traces if one.strange} == {}
    assert sum(one.steps for one in traces) > 200, "histories in which nothing happens prove nothing"


def test_a_change_that_the_model_does_not_make_is_named(allowed: Changes) -> None:
    written = Visible("context_written", "sent", "pending", "none")
    before = Visible("decided", "sent", "pending", "none")
    poorer = {**allowed, before: allowed[before] - {written}}
    strange = next(one.strange for seed in SEEDS if (one := trace(seed, poorer)).strange)
    assert strange[0].endswith("(decided, context sent, task pending, CRM none) → "
                               "(context_written, context sent, task pending, CRM none)")  # fmt: skip


def test_a_handoff_begins_with_both_rows_in_the_outbox(allowed: Changes) -> None:
    assert allowed[ABSENT] == {Visible("decided", "pending", "pending", "none")}
