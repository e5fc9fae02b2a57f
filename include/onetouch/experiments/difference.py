"""What another policy would change: a past run's decisions under both policies, from the inputs that the run stored.

Where the policies read events differently (sources, vocabulary, product, signals), the signals are computed again from
the lake's events, in a temporary lake; nothing is written to the installation's lake.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from onetouch.audit import earlier, of_run, table
from onetouch.catalogue import SALES_NOW, SIGNAL_NAMES
from onetouch.columns import as_frame
from onetouch.delivery import given_to_marketing
from onetouch.experiments.keys import Change, changed_keys
from onetouch.handoff import first_message
from onetouch.lake import Lake, columns_held
from onetouch.ledger import PSEUDONYM, Ledger, Run
from onetouch.policy import Policy, conditions
from onetouch.routing import decide, kept
from onetouch.scoring import score_frame, scorer_of
from onetouch.signals import compute, with_enterprises

READING = ("sources", "vocabulary", "product", "signals", "people")
"""Sections of a policy that the signals of an account depend on."""

CHANGE = (
    "account_id", "name", "action_before", "action_after", "rule_before", "rule_after", "score_before", "score_after",
    "owner_before", "owner_after",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """`before` and `after`: decisions of the same accounts under two policies, by account_id.

    `keys`: the keys that differ. `effects`: what changes besides decisions, a sentence each.
    """

    run_id: str
    versions: tuple[str, str]
    before: pd.DataFrame
    after: pd.DataFrame
    names: pd.Series
    computed_anew: bool
    keys: tuple[Change, ...] = ()
    effects: tuple[str, ...] = ()

    @cached_property
    def changes(self) -> pd.DataFrame:
        """Accounts whose action changes, sales touches first, then by score: the columns of CHANGE."""
        one, other = (f.set_index("account_id") for f in (self.before, self.after))
        index = one.index.union(other.index)
        one, other = one.reindex(index), other.reindex(index)
        changed = pd.DataFrame(
            {
                "account_id": index,
                "name": self.names.reindex(index).to_numpy(),
                **{
                    f"{what}_{when}": frame[column].to_numpy()
                    for what, column in (
                        ("action", "action"),
                        ("rule", "rule"),
                        ("score", "score"),
                        ("owner", "owner_email"),
                    )
                    for when, frame in (("before", one), ("after", other))
                },
            }
        )
        changed = changed[changed["action_before"].ne(changed["action_after"])]
        touches = (changed[["action_before", "action_after"]] == SALES_NOW).any(axis=1)
        score = changed[["score_before", "score_after"]].max(axis=1)
        order = changed.assign(t=touches, s=score).sort_values(["t", "s", "account_id"], ascending=[False, False, True])
        return order[list(CHANGE)].reset_index(drop=True)

    @cached_property
    def moves(self) -> pd.DataFrame:
        """action_before, action_after, accounts: the number of accounts for each change of action, most first."""
        pairs = self.changes.groupby(["action_before", "action_after"], dropna=False).size()
        counted = pairs.rename("accounts").reset_index()
        return counted.sort_values(["accounts", "action_before", "action_after"], ascending=[False, True, True])

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """owner_email, before, after: the number of tasks of each rep under both policies."""
        counted = [f[f["action"] == SALES_NOW]["owner_email"].value_counts() for f in (self.before, self.after)]
        table = pd.concat(counted, axis=1, keys=["before", "after"]).fillna(0).astype(int)
        return table.rename_axis("owner_email").sort_index().reset_index()

    @property
    def summary(self) -> str:
        """One line: "+14 / −9 sales touches (52 → 57), 31 of 20,000 accounts change action"."""
        touched = [set(f.loc[f["action"] == SALES_NOW, "account_id"]) for f in (self.before, self.after)]
        more, fewer = len(touched[1] - touched[0]), len(touched[0] - touched[1])
        return (
            f"+{more:,} / −{fewer:,} sales touches ({len(touched[0]):,} → {len(touched[1]):,}), "
            f"{len(self.changes):,} of {len(self.after):,} accounts change action"
        )

    def record(self, *, accounts: int | None = None) -> dict[str, Any]:
        """The difference as plain values; `accounts`: maximum number of changed accounts to list (None: all)."""
        shown = self.changes if accounts is None else self.changes.head(accounts)
        return {
            "run_id": self.run_id,
            "old": self.versions[0],
            "new": self.versions[1],
            "summary": self.summary,
            "accounts": len(self.after),
            "changed": len(self.changes),
            "signals_computed_anew": self.computed_anew,
            "moves": _records(self.moves),
            "tasks": _records(self.tasks),
            "keys": [change.record() for change in self.keys],
            "effects": list(self.effects),
            "changes": _records(shown),
        }


def compare(lake: Lake, ledger: Ledger, old: Policy, new: Policy, run: Run) -> Difference:
    """The decisions about the run's accounts under `old` and under `new`.

    Raises FileNotFoundError when inputs of the run are missing from the lake.
    """
    before, after = _under(lake, ledger, old, run), _under(lake, ledger, new, run)
    return Difference(
        run.run_id, (old.version, new.version), before.decisions, after.decisions, names(lake, run),
        before.computed_anew or after.computed_anew, tuple(changed_keys(old, new)), tuple(_effects(before, after)),
    )  # fmt: skip


def beside(lake: Lake, ledger: Ledger, other: Policy, run: Run) -> Difference:
    """The run's stored decisions, and those under `other`. Raises FileNotFoundError as `compare` does."""
    after = _under(lake, ledger, other, run)
    versions = run.policy_version, other.version
    return Difference(
        run.run_id, versions, decisions(lake, run), after.decisions, names(lake, run), after.computed_anew
    )


class _Under(NamedTuple):
    """A run's accounts under a policy; `computed_anew`: whether the signals had to be computed again for it."""

    policy: Policy
    decisions: pd.DataFrame
    signals: pd.DataFrame
    computed_anew: bool

    def tasks(self) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """Decision and signals of each account that would be called, by account_id."""
        called = self.decisions[self.decisions["action"] == SALES_NOW]
        rows = self.signals[self.signals["account_id"].isin(called["account_id"])]
        known = {row["account_id"]: row for row in _records(rows)}
        return {decision["account_id"]: (decision, known[decision["account_id"]]) for decision in _records(called)}

    def messages(self) -> dict[str, str]:
        """The first message of each account that would be called."""
        return {name: first_message(*of, self.policy) for name, of in self.tasks().items()}

    def audience(self) -> set[str]:
        """The accounts that marketing would be given, as far as the people in them may be written to."""
        return set(self.decisions.loc[given_to_marketing(self.decisions, self.policy), "account_id"])

    def named(self) -> int:
        """How many tasks would name a contact, as far as the CRM has it or it may be made."""
        if self.policy.crm.contacts == "never":
            return 0
        return sum(bool(row.get("contact_email")) for _, row in self.tasks().values())

    def standing(self) -> int:
        """How many accounts would have their standing on their record."""
        known = self.decisions[self.decisions["crm_account_id"].notna()]
        return len(known) if self.policy.crm.standing == "everybody" else int((known["action"] == SALES_NOW).sum())


def _effects(before: _Under, after: _Under) -> Iterator[str]:
    one, other = before.messages(), after.messages()
    both = one.keys() & other.keys()
    if otherwise := sum(one[name] != other[name] for name in both):
        yield f"first messages: {otherwise:,} of {len(both):,} tasks that stay have another one"
    if (given := before.audience()) != (then := after.audience()):
        yield f"audience: {len(given):,} → {len(then):,} accounts (+{len(then - given):,} / −{len(given - then):,})"
    if before.policy.crm.contacts != after.policy.crm.contacts:
        yield f"contacts: up to {before.named():,} → {after.named():,} of {len(other):,} tasks name the person"
    if before.policy.crm.standing != after.policy.crm.standing:
        yield f"standing: {before.standing():,} → {after.standing():,} records are written in such a run"


def _under(lake: Lake, ledger: Ledger, policy: Policy, run: Run) -> _Under:
    """The run's decisions as `policy` would make them.

    Signals are computed again only if `policy` reads events differently than the run's policy, or needs a signal that
    the run's release did not have. Touches are read again, as known at the run's `as_of`, only if `policy` looks
    further back (`handoff.silence_days`).
    """
    ledger.require_run_files(run.run_id)
    inputs, of_run = kept(lake, run.run_id), ledger.policy(run.policy_version)
    anew = any(getattr(policy, section) != getattr(of_run, section) for section in READING)
    anew = anew or not _asked(policy) <= columns_held(lake, "signals", f"{run.run_id}.parquet")
    signals = _signals_anew(lake, policy, run) if anew else inputs.signals
    touches = inputs.touches
    if policy.handoff.silence_days > of_run.handoff.silence_days:
        since = run.as_of - timedelta(days=policy.handoff.silence_days)
        touches = ledger.touches(since=since, as_of=run.as_of)
    artefact = scorer_of(policy).artefact(policy, lake)
    scores = score_frame(signals, policy, run.as_of, earlier(lake, run.run_id), artefact)
    inputs = replace(inputs, signals=signals, scores=scores, touches=touches)
    return _Under(policy, decide(inputs, policy, run.as_of), signals, anew)


def decisions(lake: Lake, run: Run) -> pd.DataFrame:
    """The decisions the run stored, but those on accounts that were forgotten since."""
    return of_the_known(of_run(lake, "decisions", run.run_id).to_pandas())


def of_the_known(decisions: pd.DataFrame) -> pd.DataFrame:
    """Decisions but those on accounts that were forgotten since."""
    return decisions[~decisions["account_id"].str.startswith(PSEUDONYM)].reset_index(drop=True)


def names(lake: Lake, run: Run) -> pd.Series:
    """The names of the run's accounts, by account_id."""
    named: pd.DataFrame = of_run(lake, "signals", run.run_id).select(["account_id", "name"]).to_pandas()
    return named.set_index("account_id")["name"]


def _asked(policy: Policy) -> set[str]:
    """The signals that a decision under the policy depends on."""
    asked = {condition.signal for _, condition in conditions(policy)}
    asked |= {*policy.routing.triggers, *policy.routing.motion.enterprise_signals, *policy.handoff.required_context}
    return asked & set(SIGNAL_NAMES)


def _signals_anew(lake: Lake, policy: Policy, run: Run) -> pd.DataFrame:
    snapshot = table(lake, "crm", run.run_id, "accounts.parquet").to_pandas()
    with tempfile.TemporaryDirectory(prefix="onetouch-signals-") as folder:
        policy = with_enterprises(lake, policy, run)
        signals, _ = compute(_Apart(lake, folder), policy, snapshot, run.as_of, dry=run.dry_run)
    return as_frame(signals)


class _Apart(Lake):
    """A lake that reads the events and the built activity of another lake, and writes to a folder of its own."""

    def __init__(self, base: Lake, folder: str) -> None:
        super().__init__(folder, base.engine_name)
        self.base, self.own = base, Lake(folder)

    def path(self, *parts: str) -> str:
        """The path in the other lake for files that exist only there, if it is local; else the path in this lake."""
        own = super().path(*parts)
        built = self.base.local and not self.fs.exists(own) and self.base.exists(*parts)
        return self.base.path(*parts) if built else own

    @contextmanager
    def writing(self, *parts: str) -> Iterator[str]:
        """Writes to the own folder, never to the other lake."""
        with self.own.writing(*parts) as path:
            yield path

    def list(self, folder: str, suffix: str = ".parquet") -> list[str]:
        """The files of the other lake."""
        return self.base.list(folder, suffix)

    @property
    def filesystems(self) -> Sequence[Any]:
        """The file systems of both lakes."""
        return [*self.own.filesystems, *self.base.filesystems]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None)
    return [dict(zip(frame.columns, row, strict=True)) for row in rows]
