"""A digest of any size: every owner is told, every task is shown or counted, and Slack takes it."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st
from onetouch.chat.slack.blocks import blocks_of, text_of
from onetouch.delivery.alert_message import Told, digest
from onetouch.handoff import Alert
from onetouch.sandbox.blocks import MAX_CHARACTERS, check_blocks, count_characters

owners = st.lists(
    st.tuples(st.sampled_from([1, 1, 2, 3, 10, 60]), st.integers(min_value=1, max_value=120)), min_size=1, max_size=110
)


@given(owners)
def test_every_owner_is_told_and_every_task_is_shown_or_counted(drawn: list[tuple[int, int]]) -> None:
    tasks = [
        Told(
            Alert("A" * length, "looked at the pricing", due="Tue 18 Nov, 11:00 CET"), "task_open", user=f"U{number:03}"
        )
        for number, (many, length) in enumerate(drawn)
        for _ in range(many)
    ]
    message = digest(tasks, "Slack")
    blocks = blocks_of(message)
    assert check_blocks(blocks, lambda _: "usable") == []
    assert count_characters(blocks) <= MAX_CHARACTERS
    texts = re.findall(r'"text": "([^"]*)"', json.dumps(blocks))
    shown = sum(text.startswith("A") and set(text) == {"A"} for text in texts)
    more = sum(int(text.split()[1]) for text in texts if text.startswith("and "))
    told = re.findall(r'"user_id": "(U\d+)"', json.dumps(blocks))
    assert sorted(told) == [f"U{number:03}" for number in range(len(drawn))], "each owner is mentioned once"
    counted = sum(many for many, _ in drawn[45:])
    assert shown + more + counted == len(tasks)
    assert all(f"<@U{number:03}> {many}" in text_of(message) for number, (many, _) in enumerate(drawn))
