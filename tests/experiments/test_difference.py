"""The difference between policies, and the shadow beside the live one: right, and without a trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from onetouch import experiments, stages
from onetouch.experiments.keys import changed_keys
from onetouch.ledger import Run
from onetouch.policy import Policy, PolicyError, preset_document, read_policy
from onetouch.workspace import Workspace, open_workspace

from tests.audit.company import AS_OF, decided

Files = Callable[[Path], dict[str, bytes]]


def policy_of(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "other.yaml"
    file.write_text(text)
    return read_policy(file)


def test_equal_policies_differ_in_nothing(company: Workspace, last: Run) -> None:
    policy = company.policy
    found = experiments.compare(company.lake, company.ledger, policy, policy, last)
    assert found.changes.empty
    assert found.moves.empty
    assert found.summary == "+0 / −0 sales touches (5 → 5), 0 of 16 accounts change action"
    assert found.before.equals(found.after)


def test_a_higher_floor_moves_accounts_and_tasks(company: Workspace, last: Run, tmp_path: Path) -> None:
    higher = policy_of(tmp_path, "value: {floor: 9700}")
    found = experiments.compare(company.lake, company.ledger, company.policy, higher, last)
    assert not found.computed_anew
    assert found.summary == "+0 / −4 sales touches (5 → 1), 7 of 16 accounts change action"
    changes = found.changes.set_index("account_id")
    assert changes.loc["called", ["action_before", "action_after", "rule_after", "owner_before"]].tolist() == [
        "sales_now", "below_floor", "value floor", "ana@sales.example",
    ]  # fmt: skip
    assert (changes["action_before"].head(4) == "sales_now").all(), "sales touches come first"
    moves = found.moves.set_index(["action_before", "action_after"])["accounts"]
    assert moves["sales_now", "below_floor"] == 4
    assert moves.sum() == len(changes)
    tasks = found.tasks.set_index("owner_email")
    assert tasks["before"].to_dict() == {"ana@sales.example": 2, "ben@sales.example": 3}
    assert tasks["after"].to_dict() == {"ana@sales.example": 0, "ben@sales.example": 1}
    record = found.record(accounts=2)
    assert (record["changed"], len(record["changes"]), record["accounts"]) == (7, 2, 16)


def test_a_policy_that_reads_events_otherwise_gets_its_own_signals_and_leaves_no_trace(
    copy: Workspace, last: Run, tmp_path: Path, files: Files
) -> None:
    other = policy_of(tmp_path, "signals: {engagement_days: 7}\nvocabulary: {premium_feature_attempted: null}\n")
    before = files(copy.home)
    found = experiments.compare(copy.lake, copy.ledger, copy.policy, other, last)
    assert found.computed_anew
    assert not found.changes.empty
    assert files(copy.home) == before

    # What a real run of that policy would have decided, but for what the run before it remembers.
    truth = decided(copy, other, AS_OF)
    again = copy.lake.read("decisions", f"{truth.run_id}.parquet").set_index("account_id")
    columns = ["score", "tier", "rule", "potential_arr", "engagement_band"]
    assert found.after.set_index("account_id")[columns].astype(object).equals(again[columns].astype(object))


def test_a_policy_that_looks_further_back_sees_the_touches_known_then(
    copy: Workspace, last: Run, tmp_path: Path
) -> None:
    longer = policy_of(tmp_path, "handoff: {silence_days: 14}")
    late = {"touch_id": "late", "account_id": "called", "at": AS_OF - timedelta(days=8), "kind": "Call"}
    copy.ledger.record_touches([late], as_of=AS_OF + timedelta(days=1))
    found = experiments.compare(copy.lake, copy.ledger, copy.policy, longer, last)
    assert found.changes[["account_id", "action_after"]].to_numpy().tolist() == [["called too", "hold_touched"]]


# ── Shadow ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_shadow(workspace: Workspace, tmp_path: Path, text: str) -> Workspace:
    file = tmp_path / "shadow.yaml"
    file.write_text(text)
    return dataclasses.replace(workspace, shadow=file)


def test_the_shadow_writes_its_decisions_and_touches_nothing_else(
    copy: Workspace, last: Run, tmp_path: Path, files: Files
) -> None:
    workspace = with_shadow(copy, tmp_path, "name: higher\nvalue: {floor: 9700}\n")
    before, handoffs = files(copy.home), copy.ledger.handoffs()
    summary = stages.shadow(workspace, last.run_id)
    after = files(copy.home)
    new = f"lake/shadow/{last.run_id}/{summary['version']}.parquet"
    assert set(after) - set(before) == {new}
    assert all(name.startswith("ledger.db") for name in before if after[name] != before[name]), "the stage's summary"
    assert copy.ledger.handoffs() == handoffs
    assert copy.ledger.outbox() == []
    assert (summary["policy"], summary["old"]) == ("higher", last.policy_version)
    assert summary["summary"].startswith("+0 / −4 sales touches")

    told = experiments.read_shadow(copy.lake, copy.ledger, last)
    assert told.summary == summary["summary"]
    assert len(told.changes) == 7
    kept = copy.lake.read("shadow", last.run_id, f"{summary['version']}.parquet")
    assert set(kept["policy_version"]) == {summary["version"]}
    assert len(kept) == 16


def test_without_a_shadow_policy_the_stage_says_so(copy: Workspace, last: Run) -> None:
    assert "no shadow policy" in stages.shadow(copy, last.run_id)["skipped"]
    with pytest.raises(ValueError, match="ONETOUCH_SHADOW_POLICY"):
        experiments.read_shadow(copy.lake, copy.ledger, last)


def test_a_broken_shadow_policy_fails_its_stage_alone(copy: Workspace, last: Run, tmp_path: Path) -> None:
    workspace = with_shadow(copy, tmp_path, "value: {floor: cheap}")
    with pytest.raises(PolicyError, match="floor"):
        stages.shadow(workspace, last.run_id)
    assert stages.ORDER[-1] == "shadow"


def test_the_shadow_policy_comes_from_the_environment_and_is_read_by_its_stage_only(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump({"no such": "section"}))
    assert open_workspace(tmp_path / "home", environ={"ONETOUCH_SHADOW_POLICY": str(file)}).shadow == file
    assert open_workspace(tmp_path / "home", environ={}).shadow is None


# ── What a change of a key does ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "key", "does"),
    [
        ("routing: {cooldown_days: 30}", "routing.cooldown_days", "is left alone for 30 days"),
        ("routing: {returns: {lost_days: null}}", "routing.returns.lost_days", "as long as after silence"),
        ("routing: {returns: {won_days: 1}}", "routing.returns.won_days", "from 1 day after the close"),
        (
            "routing: {returns: {untouched_days: 5}}",
            "routing.returns.untouched_days",
            "never called is left alone",
        ),
        ("routing: {returns: {new: signal}}", "routing.returns.new", "only a signal that was not there"),
        ("routing: {returns: {hand_raise: false}}", "routing.returns.hand_raise", "waits until that time is over"),
        (
            "routing: {returns: {same_rep_days: null}}",
            "routing.returns.same_rep_days",
            "goes to whoever is next",
        ),
        ("routing: {fresh_intent_hours: 24}", "routing.fresh_intent_hours", "is older than 24 hours"),
        ("routing: {rules: {friction: null}}", "routing.rules.friction", "is called whatever stands in its way"),
        (
            "routing: {rules: {friction: {falling: false}}}",
            "routing.rules.friction.falling",
            "while failed_actions ≥",
        ),
        ("routing: {rules: {never_contact: null}}", "routing.rules.never_contact", "hold no account"),
        ("never_contact: {domains: [rival.example]}", "never_contact.domains", "everybody of rival.example"),
        ("never_contact: {channels: [email]}", "never_contact.channels", "who opted out of one of email"),
        (
            "product: {plans: [{name: Free, seat_price_year: 0, limits: {seats: 3}, next: Team}, {name: Team}]}",
            "product.plans",
            "come from Free (free, 3 seats), Team",
        ),
        ("signals: {demo_watched: 75}", "signals.demo_watched", "watched to the end from 75 % on"),
        ("signals: {enterprise: business}", "signals.enterprise", "with a domain of its own is an enterprise"),
        ("signals: {enterprise_domains: [big.example]}", "signals.enterprise_domains", "by their domain: big.example"),
        ("signals: {enterprise_employees: null}", "signals.enterprise_employees", "for its size"),
        ("message: {order: listed}", "message.order", "the first situation of the policy's list"),
        ("message: {max_words: 90}", "message.max_words", "at most 90 words"),
        ("handoff: {task_notes: whole}", "handoff.task_notes", "all that is known of the account"),
        ("crm: {contacts: create}", "crm.contacts", "which is made once where there is none"),
        ("crm: {standing: handed_over}", "crm.standing", "only accounts that were handed over"),
        ("crm: {opportunity: on_reply}", "crm.opportunity", "once a handoff, when the customer replies"),
        ("crm: {contact_fields: {do_not_call: null}}", "crm.contact_fields.do_not_call", "is not read from the CRM"),
        ("delivery: {ramp: [2, 4]}", "delivery.ramp", "all reps together get 2, 4 tasks a day"),
        ("audience: {actions: [nurture]}", "audience.actions", "given the accounts with nurture"),
        ("audience: {tiers: [low]}", "audience.tiers", "the tiers low as well"),
        ("audience: {full_sync_days: null}", "audience.full_sync_days", "without a change"),
        ("signals: {seats_used: events}", "signals.seats_used", "only where an event reports them"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_changed_key_is_said_in_words_with_what_it_did_before(tmp_path: Path, text: str, key: str, does: str) -> None:
    policy = policy_of(tmp_path, text)
    (change,) = changed_keys(read_policy(), policy)
    assert change.key == key
    assert change.before != change.after
    assert does in change.does
    assert change.did not in ("", change.does)
    assert [c.does for c in changed_keys(policy, read_policy())] == [change.did], "and back"


def test_members_of_lists_are_told_apart_by_their_names(tmp_path: Path) -> None:
    points = [{**p, "points": 99} if p["signal"] == "invites" else p for p in preset_document()["scoring"]["points"]]
    policy = policy_of(tmp_path, yaml.safe_dump({"name": "mine", "scoring": {"points": points}}))
    assert [(c.key, c.before, c.after, c.does) for c in changed_keys(read_policy(), policy)] == [
        ("scoring.points.invites.points", 15, 99, "")
    ]


def test_what_changes_besides_decisions_is_counted(company: Workspace, last: Run, tmp_path: Path) -> None:
    other = policy_of(
        tmp_path,
        "message: {greeting: [Good day,]}\naudience: {actions: [nurture, below_floor]}\n"
        "crm: {contacts: never, standing: handed_over}\n",
    )
    found = experiments.compare(company.lake, company.ledger, company.policy, other, last)
    assert found.changes.empty, "no decision changes"
    before = found.before
    given = [set(before.loc[before["action"].isin(p.audience.actions), "account_id"]) for p in (company.policy, other)]
    assert given[0] != given[1], "the example says something"
    told = dict(effect.split(": ", 1) for effect in found.record()["effects"])
    assert told["first messages"] == "5 of 5 tasks that stay have another one"
    assert told["audience"] == (
        f"{len(given[0])} → {len(given[1])} accounts (+{len(given[1] - given[0])} / −{len(given[0] - given[1])})"
    )
    assert told["contacts"].endswith("→ 0 of 5 tasks name the person")
    known = int(before["crm_account_id"].notna().sum())
    assert told["standing"] == f"{known} → 5 records are written in such a run"


def test_equal_policies_say_nothing_of_keys(company: Workspace, last: Run) -> None:
    found = experiments.compare(company.lake, company.ledger, company.policy, company.policy, last).record()
    assert (found["keys"], found["effects"]) == ([], [])
