"""The output of the command line for a person: tables and panels for terminals of 80 columns or more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from onetouch.catalogue import ACTIONS, SALES_NOW

if TYPE_CHECKING:
    from onetouch.audit import Explanation
    from onetouch.experiments import Difference, Result
    from onetouch.ledger import Run
    from onetouch.policy import Policy

NAME, BECAUSE, CHANGE = 100, 130, 170
"""Widths of the terminal from which a table of decisions shows names, the reasons, and what would change a decision."""

BAR = 22
"""Length of the longest bar of a score."""

CHANGES = 40
"""The number of accounts of a difference that are listed; the others are only counted (--json has all)."""

MARKS = {"did not apply": ("·", "dim"), "decided": ("▶", "bold green"), "not asked": (" ", "bright_black")}


def decisions(rows: Iterable[Mapping[str, Any]], run: Run, policy: Policy, width: int) -> RenderableType:
    """The run, then one line per decision; a wider terminal shows more columns."""
    from onetouch.routing import sentence  # the other screens do not need this package

    name, because, change = width >= NAME, width >= BECAUSE, width >= CHANGE
    head = Text(f"run {run.run_id}", style="dim")
    table = _table(
        "account", *["name"] * name, ">score", "action", "rule", "owner", *["tier", "call", "because of"] * because
    )
    if change:
        table.add_column("to become a sales touch", min_width=40)
    for row in rows:
        cells = [
            Text(row["account_id"]),
            *[Text(row["name"] or "")] * name,
            f"{row['score']:g}",
            _action(row["action"]),
            "" if row["action"] == SALES_NOW else row["rule"],
            Text((row["owner"] or "").partition("@")[0]),
        ]
        if because:
            cells += [row["tier"], row["call"], ", ".join(r["signal"] for r in row["reasons"][:2])]
        if change:
            said = [sentence(o["obstacle"], o["has"], o["needs"], policy) for o in row["would_change"]]
            more = f" And {len(said) - 1} more." if len(said) > 1 else ""
            cells.append(Text((said[0] if said else "") + more))
        table.add_row(*cells)
    return Group(head, table if table.row_count else Text("no account got such a decision"))


_WAYS = {"id": "id", "crm_id": "the CRM's id", "domain": "domain", "followed": "following the people of their domain"}
"""How a record joined its account (`signals.joining`), in words."""


def accounting(result: Mapping[str, Any]) -> RenderableType:
    """What became of every row, account and decision of a run, one line per figure."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = result["rows"]
    if rows:
        refused = ", ".join(f"{reason} {n:,}" for reason, n in rows["quarantined"].items()) or "none"
        table.add_row("rows", f"{rows['in']:,} in = {rows['kept']:,} kept + {rows['duplicates']:,} duplicates")
        if anonymous := rows.get("anonymous"):
            table.add_row(
                "  anonymous", f"{anonymous:,} of the kept: of devices only, no signal until somebody signs in"
            )
        table.add_row("quarantined", refused)
        for name in ("repaired", "ignored"):
            if counted := result[name]:
                table.add_row(name, ", ".join(f"{reason} {n:,}" for reason, n in counted.items()))
        if (hours := result["hours"]) and hours["expected"]:
            lost = f", {hours['lost']:g} lost ({hours['lost'] / hours['expected']:.0%})" if hours["lost"] else ""
            told = f"{hours['expected']:,} in the files, {hours['seen']:,} read, {hours['empty']:,} empty{lost}"
            table.add_row("hours", Text(told, style="red" if lost else ""))
    for kind, names in (result.get("events") or {}).items():
        if names:
            table.add_row(f"{kind} events", Text(", ".join(f"{name} {n:,}" for name, n in names.items())))
    if result.get("already_read"):
        table.add_row("already read", f"{result['already_read']:,} files, by earlier runs")
    if result.get("late"):
        table.add_row("late", f"{result['late']:,} rows: earlier runs did not have them, and still do not count them")
    if result.get("waiting"):
        table.add_row("not read", f"{result['waiting']:,} files came after this run had read: a later run reads them")
    if records := result["records"]:
        ways = ", ".join(f"{n:,} by {_WAYS[way]}" for way, n in records["joined"].items()) or "none"
        said = f"{records['read']:,} read; joined to accounts: {ways}; not joined: {records['not_joined']:,}"
        table.add_row("records", f"{said}; accounts without a record: {records['accounts_without']:,}")
    if result["decisions"]:
        table.add_row("accounts", f"{result['accounts']:,}, each with one decision")
        for action, n in sorted(result["decisions"].items(), key=lambda item: -item[1]):
            table.add_row(f"  {action}", f"{n:,}")
    if result["delivered"] is not None:
        table.add_row("delivered", f"{result['delivered']:,} of {result['to_send']:,} decisions to send")
        for reason, n in (result["withheld"] or {}).items():
            hint = " (a person's yes: --approve)" if reason == "not approved" else ""
            table.add_row("  withheld", Text(f"{n:,} × {reason}{hint}"))
        for failure in result["failed"] or []:
            table.add_row("  failed", Text(f"{failure['account_id']}: {failure['reason']}"))
        if result["deferred"]:
            table.add_row("  deferred", f"{result['deferred']:,} of the failed: the next run tries again")
    if again := result.get("follow_ups"):
        table.add_row("follow-ups", ", ".join(f"{n:,} {name}" for name, n in again.items()))
    if result["held"]:
        table.add_row("held", Text(f"{result['held']}; open tasks to be closed: {result['to_withdraw'] or 0:,}"))
    for warning in result["warnings"]:
        table.add_row("warning", Text(warning, style="yellow"))
    return table


def counts(found: Mapping[str, Any]) -> RenderableType:
    """One line per figure; a list has one line per item."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in found.items():
        lines = value if isinstance(value, list) else [value]
        for line in lines or ["none"]:
            shown = line if not isinstance(line, dict) else ": ".join(str(part) for part in line.values())
            table.add_row(name.replace("_", " "), Text("none" if shown is None else str(shown)))
    return table


def status(found: Mapping[str, Any]) -> RenderableType:
    """Whether sending is stopped, what waits, and one line per run."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    stopped = found["stopped"]
    table.add_row(
        "sending", Text(f"stopped: {stopped} (onetouch resume)", style="red") if stopped else Text("on", style="green")
    )
    refused = Text(f"{found['waiting']:,} wait for the next run, ")
    refused.append(f"{found['refused']:,} refused (onetouch outbox)", style="red" if found["refused"] else "")
    table.add_row("outbox", refused)
    for row in found["unsent"]:
        style = "red" if row["state"] == "failed" else ""
        table.add_row(
            "", Text(f"{row['key']}: {row['reason']}, since {_moment(row['since'])}: {row['to_do']}", style=style)
        )
    for row in found["records_refused"]:
        said = f"{row['records']:,} not written: {row['reason']}, since {_moment(row['since'])}: {row['to_do']}"
        table.add_row("records", Text(said, style="red"))
    table.add_row("handoffs", f"{found['open_handoffs']:,} open")
    if not found["runs"]:
        return Group(table, "", Text("no run has begun here yet"))
    runs = _table("last runs", ">accounts", f">{SALES_NOW}", "outcome")
    for run in found["runs"]:
        decided = run["decisions"] is not None
        accounts = f"{run['accounts']:,}" if decided else ""
        called = f"{run['decisions'].get(SALES_NOW, 0):,}" if decided else ""
        runs.add_row(Text(run["run_id"]), accounts, called, _outcome(run))
    return Group(table, "", runs)


def _outcome(run: Mapping[str, Any]) -> Text:
    if run["delivered"] is None:
        return Text("has not come to sending" if run["decisions"] else "has not decided", style="yellow")
    if run["held"]:
        return Text(run["held"], style="yellow")
    said = Text(f"{run['delivered']:,} delivered")
    if withheld := sum((run["withheld"] or {}).values()):
        said.append(f", {withheld:,} withheld", style="yellow")
    if run["failed"]:
        said.append(f", {len(run['failed']):,} failed", style="red")
    return said


def outbox(rows: Iterable[Mapping[str, Any]]) -> RenderableType:
    """One line per outbox row: its key, state and number of attempts, why it was not sent, since when, what to do."""
    table = _table("key", "state", ">attempts", "reason", "since", "what to do")
    for row in rows:
        style = "red" if row["state"] == "failed" else ""
        state, since = Text(row["state"], style=style), _moment(row["since"])
        cells = Text(row["key"]), state, str(row["attempts"]), Text(row["reason"]), since, Text(row["to_do"])
        table.add_row(*cells)
    return table if table.row_count else Text("nothing waits, nothing was refused")


def explanation(found: Explanation) -> RenderableType:
    """The decision, every rule in order, the score as bars, gates and value."""
    d = found.decision
    head = Text.assemble((d["action"], f"bold {_COLOURS.get(d['action'], 'cyan')}"), f"  by rule {d['rule']}")
    head.append(f"\nas of {_moment(d['as_of'])} · policy {d['policy_version']} · run {found.run_id}", style="dim")
    for line in _task(d):
        head.append(f"\n{line}")

    rules = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    rules.add_column(width=1)
    rules.add_column(no_wrap=True)
    rules.add_column(overflow="fold")
    for said in found.rules:
        mark, style = MARKS[said.verdict]
        rules.add_row(Text(mark, style=style), Text(said.rule, style=style), Text(said.why, style=style))

    parts: list[RenderableType] = [
        head,
        _title("Rules: the first that applies decides, the others are not asked"),
        rules,
    ]
    if found.would_change:
        change = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
        for sentence_ in found.would_change:
            change.add_row("•", Text(sentence_))
        parts += [_title("To become a sales touch"), change]
    if found.before is not None and found.ended:
        over = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
        for sentence_ in found.ended:
            over.add_row("•", Text(sentence_))
        then = f"{found.before['action']}, score {found.before['score']:g}"
        parts += [_title(f"Ended since the run of {_moment(found.before['as_of'])} ({then})"), over]
    parts += [_title("Score"), _score(found), _gates(found)]
    return Panel(
        Group(*parts), title=Text(_called(found), style="bold"), title_align="left", padding=(1, 2), width=100,
        box=box.ROUNDED,
    )  # fmt: skip


def _called(found: Explanation) -> str:
    name, account = found.signals.get("name"), found.decision["account_id"]
    return f"{name} ({account})" if name and name != account else account


def _task(d: Mapping[str, Any]) -> list[str]:
    """The lines on the task: the rep who has it and why, and when it is due."""
    lines = []
    if d.get("owner_email"):
        word = "waits for" if d["action"] == "hold_capacity" else "goes to"
        lines.append(f"{word} {d['owner_email']} ({d['assigned_by']})")
    if d.get("due_at"):
        lines.append(f"first contact {_moment(d['contact_at'])}, due {_moment(d['due_at'])}")
    if d.get("since") and d["since"] != d["as_of"]:
        lines.append(f"so since {_moment(d['since'])}")
    return lines


def _score(found: Explanation) -> RenderableType:
    """Value → points of each signal, as bars that add up to the score."""
    d = found.decision
    bars = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    bars.add_column(no_wrap=True)
    bars.add_column(justify="right", no_wrap=True)
    bars.add_column(no_wrap=True, width=BAR)
    bars.add_column(justify="right", no_wrap=True)
    bars.add_row(*(Text(word, style="dim") for word in ("signal", "value", "", "points")))
    longest = max((r["points"] for r in d["reasons"]), default=1.0)
    for reason in d["reasons"]:
        bar = "█" * max(1, round(BAR * reason["points"] / longest))
        bars.add_row(reason["signal"], f"{reason['value']:,.4g}", Text(bar, style="green"), f"{reason['points']:g}")
    tier = f"{d['tier']} tier"
    if found.tier_score == d["score"]:
        bars.add_row(Text("score", style="bold"), "", tier, Text(f"{d['score']:g}", style="bold"))
    else:
        bars.add_row(Text("score", style="bold"), "", "", Text(f"{d['score']:g}", style="bold"))
        bars.add_row("of it from use", "", f"decides: {tier}", f"{found.tier_score:g}")
    if d.get("score_before") is not None:
        return Group(bars, Text(f"{d['score_trend']}: it was {d['score_before']:g}", style="dim"))
    return bars


def _gates(found: Explanation) -> RenderableType:
    d = found.decision
    gates = Text("\nGates  ", style="bold")
    for gate, passed in found.gates.items():
        gates.append(f"{'✓' if passed else '✗'} {gate}   ", style="not bold green" if passed else "not bold red")
    gates.append("\nValue  ", style="bold")
    gates.append(
        f"{d['value_band']}: potential ARR ${d['potential_arr']:,.0f} · engagement {d['engagement_band']} · "
        f"motion {d['motion'].replace('_', '-')}",
        style="not bold",
    )
    return gates


def assignments(reps: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> RenderableType:
    """The load of each rep today, then each task with its rep and the reason for the assignment."""
    desk = _table("rep", ">a day", ">had today", ">new", ">room left", ">open touches", ">waiting", "")
    for rep in reps:
        numbers = [f"{rep[name]:,}" for name in ("tasks_per_day", "today", "new", "left", "open", "waiting")]
        desk.add_row(Text(rep["owner_email"]), *numbers, "away" if rep["away"] else "")
    given = _table("account", ">score", "goes to", "because", "call", "contact (UTC)", "due (UTC)")
    for task in tasks:
        waits = task["action"] == "hold_capacity"
        given.add_row(
            Text(task["account_id"]),
            f"{task['score']:g}",
            Text((task["owner_email"] or "nobody") + (" (waits)" if waits else ""), style="yellow" if waits else ""),
            task["assigned_by"] or "",
            task["call"],
            _short(task["contact_at"]),
            _short(task["due_at"]),
        )
    return Group(desk, "", given) if tasks else Group(desk, "", Text("nobody got anything"))


def difference(found: Difference) -> RenderableType:
    """The summary, then the differences by action and by rep, then the accounts that differ."""
    told = found.record(accounts=CHANGES)
    parts: list[RenderableType] = [
        Text(told["summary"], style="bold"),
        Text(f"run {told['run_id']} · policy {told['old']} → {told['new']}", style="dim"),
    ]
    if told["signals_computed_anew"]:
        anew = "the policies read events differently: signals computed anew, in a lake that is thrown away"
        parts.append(Text(anew, style="yellow"))
    for change in told["keys"][:CHANGES]:
        values = " → ".join(_value(change[when]) for when in ("before", "after"))
        parts.append(Text.assemble((change["key"], "bold"), f"  {values}"))
        if change["does"]:
            parts.append(Text(f"  {change['does']}; before: {change['did']}"))
    if (more := len(told["keys"]) - CHANGES) > 0:
        parts.append(Text(f"… and {more:,} more keys; --json lists them", style="dim"))
    parts += [Text(effect, style="bold") for effect in told["effects"]]
    if not told["changes"]:
        return Group(*parts)
    moves = _table("from", "to", ">accounts")
    for row in told["moves"]:
        moves.add_row(_action(row["action_before"]), _action(row["action_after"]), f"{row['accounts']:,}")
    tasks = _table("rep", ">tasks before", ">after", ">")
    for row in told["tasks"]:
        before, after = row["before"], row["after"]
        tasks.add_row(
            Text(row["owner_email"]), f"{before:,}", f"{after:,}", f"{after - before:+,}" if after != before else ""
        )
    accounts = _table("account", "from", "to", ">score", "by rule")
    for row in told["changes"]:
        scores = dict.fromkeys("–" if s is None else f"{s:g}" for s in (row["score_before"], row["score_after"]))
        accounts.add_row(
            Text(row["account_id"]), _action(row["action_before"]), _action(row["action_after"]),
            " → ".join(scores), row["rule_after"],
        )  # fmt: skip
    parts += ["", moves, "", tasks, "", accounts]
    if (more := told["changed"] - CHANGES) > 0:
        parts.append(Text(f"… and {more:,} more; --json lists them", style="dim"))
    return Group(*parts)


def _value(value: Any) -> str:
    """A value of a policy in a line: what is not there is "–", a long one is cut."""
    text = "–" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def replayed(result: Mapping[str, Any]) -> RenderableType:
    """Whether the replay is identical; otherwise the differences."""
    if result["identical"]:
        what = f"decision {result['decision_id']}" if result["decision_id"] else "every decision"
        left_out = f"; left out, of accounts forgotten since: {result['forgotten']}" if "forgotten" in result else ""
        return Text(f"identical: {what} of run {result['run_id']}{left_out}", style="green")
    table = _table("account", "column", "stored", "again")
    for row in result["differences"][:CHANGES]:
        table.add_row(*(Text(str(row[name])) for name in ("account_id", "column", "stored", "again")))
    if "forgotten" in result:
        room = "what they had taken of a rep's room is free here"
        return Group(table, Text(f"accounts of the run forgotten since: {result['forgotten']}; {room}", style="yellow"))
    return table


def erased(found: Mapping[str, Any]) -> RenderableType:
    """What was erased, what was searched afterwards, and which copies are elsewhere."""
    lake, ledger, searched, shared = (found[name] for name in ("lake", "ledger", "searched", "shared"))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row(found["kind"], f"is {found['pseudonym']} from now on")
    table.add_row("lake", f"{lake['rows']:,} rows and {lake['lines']:,} raw lines, in {lake['rewritten']:,} files")
    table.add_row("ledger", f"{ledger['rows']:,} rows; handoffs withdrawn: {ledger['handoffs']:,}")
    if not (lake["rewritten"] or ledger["rows"]):
        nothing = "nothing of it was found: forgotten before, or its id is written otherwise in the product"
        table.add_row("warning", Text(nothing, style="yellow"))
    if shared["users"] or shared["domains"]:
        table.add_row("kept", f"{shared['users']:,} users and {shared['domains']:,} domains: they are others', too")
    looked = f"{searched['files']:,} files, {searched['bytes']:,} bytes; {searched['rows']:,} rows of the ledger"
    table.add_row("searched", looked)
    table.add_row("found", Text(str(len(found["found"])), style="red" if found["found"] else "green"))
    for place in found["found"]:
        table.add_row("", Text(place, style="red"))
    for step in found["elsewhere"]:
        table.add_row("elsewhere", Text(step))
    return table


def would_erase(found: Mapping[str, Any]) -> RenderableType:
    """By what the subject is known, what is kept because others use it, too, and which copies are elsewhere."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row(found["kind"], Text(f"{found['id']}: nothing has been erased (--yes erases)"))
    for name, values in found["identifiers"].items():
        if values:
            table.add_row(name.replace("_", " "), Text(", ".join(values)))
    table.add_row("handoffs", f"{found['handoffs']:,} would be withdrawn")
    shared = found["shared"]
    if shared["users"] or shared["domains"]:
        table.add_row("kept", f"{shared['users']:,} users and {shared['domains']:,} domains: they are others', too")
    for step in found["elsewhere"]:
        table.add_row("elsewhere", Text(step))
    return table


def pruned(found: Mapping[str, Any]) -> RenderableType:
    """What was deleted, or would be, one line for each kind of data; what is kept for ever says so."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("would delete" if found["dry_run"] else "deleted", f"as of {found['as_of']}")

    def told(name: str, what: str, kept: int = 0, why: str = "") -> None:
        sizes = f"; {found[name]['files']:,} files, {found[name]['bytes']:,} bytes"
        table.add_row(name, what + sizes + (f"; {kept:,} old ones are kept: {why}" if kept else ""))

    if (raw := found["raw"]) is not None:
        told("raw", f"{raw['windows']:,} windows", raw["not_staged"], "no run has staged them")
    if (events := found["events"]) is not None:
        months = f" ({events['months'][0]} to {events['months'][-1]})" if events["months"] else ""
        told("events", f"{len(events['months']):,} months{months}")
    if (runs := found["runs"]) is not None:
        told("runs", f"{runs['runs']:,} runs", runs["in_use"], "something is still read of them")
    if (rows := found["ledger"]) is not None:
        table.add_row("ledger", ", ".join(f"{kind} {n:,}" for kind, n in rows.items()))
    for name in ("raw", "events", "runs", "ledger"):
        if found[name] is None:
            table.add_row(name, f"kept for ever: the policy has no retention.{name}_days")
    return table


def scenarios(results: list[Result]) -> RenderableType:
    """One line per scenario; for a failed scenario also what was expected, the result, and why."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(width=1)
    table.add_column(overflow="fold")
    file = None
    for result in results:
        if result.file != file:
            file = result.file
            table.add_row("", Text(file, style="bold"))
        mark = Text("✓", style="green") if result.passed else Text("✗", style="bold red")
        line = Text(result.name)
        line.append(f"  {result.source}", style="dim")
        table.add_row(mark, line)
        for found in result.differences:
            table.add_row("", Text(f"  {found.what}: expected {found.expected}, got {found.got}", style="red"))
        if not result.passed:
            table.add_row("", Text(f"  {result.explained}", style="dim"))
    passed = sum(result.passed for result in results)
    return Group(table, "", Text(f"{passed} of {len(results)} scenarios pass", style="bold"))


def _table(*columns: str) -> Table:
    """A table of these columns; `>` before a name aligns the column to the right. Ids are never wrapped, so that they
    can be copied."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        table.add_column(
            column.removeprefix(">"),
            justify="right" if right else "left",
            no_wrap=right or column in ("account", "action", "last runs"),
        )
    return table


def _title(text: str) -> Padding:
    return Padding(Text(text, style="bold"), (1, 0, 0, 0))


def _action(action: Any) -> Text:
    return (
        Text(action, style=_COLOURS.get(action, "cyan")) if isinstance(action, str) else Text("not there", style="dim")
    )


_COLOURS = {str(a): "green" if a.sales_touch else "yellow" if a.hold or a.watched else "cyan" for a in ACTIONS}


def _moment(at: str | None) -> str:
    """2025-03-12T10:00:00Z → "2025-03-12 10:00 UTC"."""
    return "" if at is None else f"{at[:10]} {at[11:16]} UTC"


def _short(at: str | None) -> str:
    """2025-03-12T10:00:00Z → "Mar 12 10:00"."""
    return "" if at is None else f"{datetime.fromisoformat(at):%b %d %H:%M}"
