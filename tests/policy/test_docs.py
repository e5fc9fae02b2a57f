"""The policy reference says all there is to say, and nothing that is no longer so."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from onetouch.catalogue import SIGNAL_NAMES
from onetouch.policy.read import preset_document
from onetouch.policy.schema import FACTS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def docs() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "policy.py"))


@pytest.fixture(scope="module")
def page(docs: dict[str, Any]) -> str:
    return docs["PAGE"].read_text(encoding="utf-8")


def test_the_reference_is_up_to_date(docs: dict[str, Any], page: str) -> None:
    assert page == docs["render"](), "run: python docs/policy.py"


def test_every_key_and_signal_is_in_it(page: str) -> None:
    def keys(value: Any, path: str) -> list[str]:
        parts = value.items() if isinstance(value, dict) else []
        inner = [key for name, part in parts for key in keys(part, f"{path}.{name}".lstrip("."))]
        return inner or [path]

    shown = set(re.findall(r"`([^`\n]+)`", page))
    own_table = ("vocabulary.", "quality.", "crm.account_fields.", "report.benchmarks.", "routing.rules.")
    missing = [k for k in keys(preset_document(), "") if not k.startswith(own_table) and k not in shown]
    assert missing == ["sources", "situations"]  # headings
    assert [s for s in SIGNAL_NAMES if s not in shown] == []
    assert [f for f in FACTS if f"{{{f}}}" not in shown] == []


def test_every_number_in_it_has_a_source_and_every_key_a_meaning(page: str) -> None:
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.split(" | ")]
        if re.match(r"\| `[a-z]+\.", line) and len(cells) == 5:
            key, default, _, source, meaning = cells
            assert source or meaning.rstrip("|").strip(), f"{key}: neither source nor meaning"
            assert source or not re.match(r"\d", default), f"{key}: {default} without a source"


def test_contradictions_name_keys_that_exist_and_the_defaults_in_force(docs: dict[str, Any]) -> None:
    for contradiction in docs["CONTRADICTIONS"]:
        for key in contradiction.keys:
            assert docs["_at"](preset_document(), key) is not None


@pytest.mark.parametrize(
    ("comment", "source", "meaning"),
    [
        ("S0 S1: 80 % of a limit; weight ours", "S0 S1, weight ours", "80 % of a limit"),
        ("S2; S4 reads 1–4", "S2", "S4 reads 1–4"),
        ("ours", "ours", ""),
        ("how many S4 has", "", "how many S4 has"),
        ("S4; weight ours", "S4, weight ours", ""),
    ],
)
def test_who_says_so_is_told_from_what_it_means(docs: dict[str, Any], comment: str, source: str, meaning: str) -> None:
    assert docs["comments"](f"a:\n  b: 1   # {comment}\n")["a.b"] == docs["Said"](source, meaning)
