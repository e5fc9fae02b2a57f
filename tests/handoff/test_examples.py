"""The ten simulated accounts of docs/examples: what a rep reads, as it is printed."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from onetouch.catalogue import SIGNAL_NAMES
from onetouch.handoff import dossier, first_message, task_content
from onetouch.handoff.facts import known_facts
from onetouch.handoff.situations import why_now

from tests.handoff.test_messages import check

DOCS = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "dossiers.py"))
POLICY = DOCS["POLICY"]


@pytest.fixture(scope="module")
def docs() -> dict[str, Any]:
    return DOCS


@pytest.fixture(scope="module")
def ten(docs: dict[str, Any]) -> list[dict[str, Any]]:
    return docs["kept"]()


def test_the_page_is_up_to_date(docs: dict[str, Any], ten: list[dict[str, Any]]) -> None:
    page = docs["PAGE"].read_text(encoding="utf-8")
    assert page == docs["render"](ten, POLICY), "run: python docs/dossiers.py"
    assert "**Simulated.**" in page.splitlines()[2]


def test_ten_accounts_in_different_situations(ten: list[dict[str, Any]]) -> None:
    assert len({e["decision"]["account_id"] for e in ten}) == 10
    assert len({why_now(known_facts(e["decision"], e["signals"]), POLICY).situation for e in ten}) >= 8
    assert {e["decision"]["call"] for e in ten} >= {"pql", "trigger"}


def test_they_read_well(ten: list[dict[str, Any]]) -> None:
    for example in ten:
        decision, row, zone = example["decision"], example["signals"], example["rep_timezone"]
        message, text = first_message(decision, row, POLICY), dossier(decision, row, POLICY, zone)
        person = str(row.get("top_user"))
        assert "_" not in message + text.replace(person, "")
        assert not re.search(r"(?<![\d.,])1 [a-z]+s\b", message + text)
        said = re.sub(r"\S+@\S+", "", message + text)  # an address may have dots between digits
        assert not re.search(r"\d\.\d{2,}|\b(nan|None|NaT|null)\b", said)
        assert not [line for line in text.split("\n") if line != line.rstrip() or line.endswith(":")]
        titles = re.findall(r"^[A-Z][A-Z ]+$", text, flags=re.MULTILINE)
        assert len(titles) == len(set(titles)) >= 10
        assert all(re.search(rf"^{title}\n  \S", text, flags=re.MULTILINE) for title in titles)  # none is empty
        check(message, str(row["name"]))
        assert ("personalized onboarding" in message) <= bool(row["milestones_left"])  # who finished it needs none
        assert all(f"{item['times']:,} times" in message for item in row["features_by_use"][:1])
        words = why_now(known_facts(decision, row), POLICY).words
        unlocking = {"limit": "room_plan", "outgrowing": "room_plan", "premium": "feature_plan", "pricing": "next_plan"}
        fact = unlocking.get(why_now(known_facts(decision, row), POLICY).situation.split()[0], "")
        assert words.get(fact, "") in message  # the plan is named where one unlocks it
        assert not [signal for signal in SIGNAL_NAMES if re.search(rf"\b{signal}\b", text) and "_" in signal]
        assert len(task_content(decision, row, POLICY, zone).subject) <= 120


def test_their_points_add_up_as_printed(ten: list[dict[str, Any]]) -> None:
    for example in ten:
        text = dossier(example["decision"], example["signals"], POLICY)
        points = [float(said) for said in re.findall(r"→ ([\d.]+) points?", text)]
        (together,) = re.findall(r"Together ([\d.]+) points", text)
        assert round(sum(points), 1) == float(together)
        assert f"Score: {together} " in text
        assert "Not itemised" not in text
