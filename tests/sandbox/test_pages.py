"""The pages show what people would see, and nothing of it as markup."""

from __future__ import annotations

from html import unescape

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from onetouch.sandbox import mrkdwn

from tests.sandbox.conftest import ACME, ANN, BOB, OTHER, Sandbox

EVIL = "<script>alert(1)</script>\"'&"


def page(sandbox: Sandbox, path: str) -> str:
    answer = requests.get(sandbox.url + path, timeout=20)
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert " style=" not in answer.text
    assert "<script" not in answer.text
    return answer.text


def add(sandbox: Sandbox, **values: object) -> str:
    answer = sandbox.rest("POST", "sobjects/Task", json={"WhatId": ACME, "OwnerId": ANN} | values)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_rep_sees_open_tasks_ranked_and_done_ones_apart(sandbox: Sandbox) -> None:
    late = add(sandbox, Subject="Late", ActivityDate="2025-03-01", Priority="Low")
    low = add(sandbox, Subject="Low", ActivityDate="2025-03-03", Priority="Low")
    high = add(sandbox, Subject="High", ActivityDate="2025-03-03", Priority="High", IsReminderSet=True, ReminderDateTime="2025-03-03T13:15:00Z")  # fmt: skip  # noqa: E501
    done = add(sandbox, Subject="Finished thing")
    sandbox.rest(
        "PATCH", f"sobjects/Task/{done}", json={"Status": "Completed", "Onetouch_Outcome__c": "Meeting booked"}
    )
    add(sandbox, Subject="Somebody else's", OwnerId=BOB)
    dossier = f"Acme\n\nWHY NOW\n  Seats: 11 of 12 {EVIL}"
    sandbox.rest("PATCH", f"sobjects/Account/{ACME}", json={"Onetouch_Dossier__c": dossier, "Onetouch_Score__c": 71.5})

    text = page(sandbox, f"/tasks?rep={ANN}")
    assert [text.index(f'id="{task}"') for task in (late, high, low)] == sorted(
        text.index(f'id="{task}"') for task in (late, high, low)
    )
    assert f'id="{done}"' not in text
    assert text.index("Finished thing") > text.index('class="done"')
    assert "Meeting booked" in text
    assert "Somebody else" not in text
    assert "Due Sat 1 Mar" in text
    assert "Best at today, 14:15" in text  # her own time
    assert "11 of 12 &lt;script&gt;" in text
    assert "71.5" in text
    assert page(sandbox, "/") == page(sandbox, "/tasks")


def test_a_task_of_a_lead_shows_the_leads_context_and_what_the_rep_thought_of_it(sandbox: Sandbox) -> None:
    context = {"Company": "Nova GmbH", "Website": "https://nova.example", "Onetouch_Dossier__c": "WHY NOW\n  Two seats"}
    lead = sandbox.rest("POST", "sobjects/Lead", json={"LastName": "L", **context}).json()["id"]
    add(sandbox, WhatId=None, WhoId=lead)
    done = add(sandbox, Subject="Done")
    picks = {"Status": "Completed", "Onetouch_Outcome__c": "Replied", "Onetouch_Disposition__c": "Not now"}
    sandbox.rest("PATCH", f"sobjects/Task/{done}", json=picks)
    text = page(sandbox, f"/tasks?rep={ANN}")
    assert "Nova GmbH" in text and "Two seats" in text and "No account" not in text
    assert text.index("Replied</span>") < text.index("Not now</span>")


def test_names_and_subjects_are_text(sandbox: Sandbox) -> None:
    sandbox.rest("PATCH", f"sobjects/Account/{OTHER}", json={"Name": EVIL})
    add(sandbox, Subject=EVIL, WhatId=OTHER, Description=EVIL)
    assert unescape(page(sandbox, f"/tasks?rep={ANN}")).count(EVIL) == 3
    assert page(sandbox, "/tasks?rep=%3Cscript%3E")


def test_slack_shows_blocks_pictures_and_threads(sandbox: Sandbox) -> None:
    slack = sandbox.slack()
    ann = slack.users_lookupByEmail(email="ann@acme.example")["user"]["id"]
    file = slack.files_upload_v2(content=b"\x89PNG\r\n\x1a\n", filename="a.png", title="A", alt_txt="A line")["file"][
        "id"
    ]
    slack.files_info(file=file)
    root = slack.chat_postMessage(
        channel="C0LEADERS",
        text="fallback",
        blocks=[
            {"type": "header", "text": {"type": "plain_text", "text": f"Week 10 :dart: {EVIL}"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": f"*bold* for <@{ann}> at 2 &lt; 3 <https://x.example/?a=1&amp;b=2|link>"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "<javascript:alert(1)|click> <!channel>"}},
            {"type": "image", "slack_file": {"id": file}, "alt_text": "A line"},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": "_small_"}]},
        ],
    )["ts"]  # fmt: skip
    slack.chat_postMessage(channel="C0LEADERS", text="In the thread", thread_ts=root)
    text = page(sandbox, "/slack?channel=C0LEADERS")
    assert "Week 10 🎯 &lt;script&gt;" in text
    assert "<strong>bold</strong>" in text
    assert "@Ann Rep" in text
    assert "2 &lt; 3" in text
    assert 'href="https://x.example/?a=1&amp;b=2"' in text
    assert 'href="javascript' not in text
    assert '<span class="mention loud">@channel</span>' in text
    assert f'<img src="/slack/files/{file}" alt="A line"' in text
    assert "1 reply" in text
    assert "In the thread" in text
    assert "fallback" not in text


def test_slack_shows_rich_text_edits_and_direct_messages(sandbox: Sandbox) -> None:
    slack = sandbox.slack()
    ann = slack.users_lookupByEmail(email="ann@acme.example")["user"]["id"]
    direct = slack.conversations_open(users=ann)["channel"]["id"]
    inline = [
        {"type": "user", "user_id": ann},
        {"type": "text", "text": f" *{EVIL}* <!channel>", "style": {"strike": True, "bold": True}},
        {"type": "emoji", "name": "no_entry"},
        {"type": "link", "url": "javascript:alert(1)", "text": "click"},
    ]
    item = {"type": "rich_text_section", "elements": [{"type": "text", "text": "first"}]}
    block = {
        "type": "rich_text",
        "elements": [
            {"type": "rich_text_section", "elements": inline},
            {"type": "rich_text_list", "style": "bullet", "elements": [item]},
        ],
    }
    ts = slack.chat_postMessage(channel=direct, text="fallback")["ts"]
    assert "(edited)" not in page(sandbox, f"/slack?channel={direct}")
    slack.chat_update(channel=direct, ts=ts, text="fallback", blocks=[block])
    text = page(sandbox, f"/slack?channel={direct}")
    assert "Direct messages" in text
    assert "<title>Ann Rep" in text
    assert '<span class="mention">@Ann Rep</span>' in text
    assert "<s><strong> *&lt;script&gt;" in text
    assert "&lt;!channel&gt;" in text
    assert "⛔" in text
    assert "<ul><li>first</li></ul>" in text
    assert "javascript:" not in text
    assert "(edited)" in text


def test_an_empty_org_has_a_page(sandbox: Sandbox) -> None:
    requests.delete(f"{sandbox.url}/_sandbox/state", timeout=20)
    assert "An empty org" in page(sandbox, "/")
    assert "Nothing has been posted" in page(sandbox, "/slack")


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("*a* _b_ ~c~ `d*e*`", "<strong>a</strong> <em>b</em> <s>c</s> <code>d*e*</code>"),
        ("2*3*4 snake_case_name", "2*3*4 snake_case_name"),
        ("&gt; said\nafter", "<blockquote>said</blockquote>after"),
        ("```<b>\n*x*```", "<pre>&lt;b&gt;\n*x*</pre>"),
        ("*<https://a.example|b>*", '<strong><a href="https://a.example" rel="noreferrer noopener">b</a></strong>'),
        ("&lt;b&gt; &amp;amp;", "&lt;b&gt; &amp;amp;"),
    ],
)
def test_mrkdwn_reads_as_slack_reads_it(text: str, html: str) -> None:
    assert str(mrkdwn.render(text, {})) == html


@given(st.text(st.sampled_from(list("<>&;`*_~!@#|\"'\n ablgtmp:/javscript\x000")), max_size=60))
def test_no_text_becomes_markup(text: str) -> None:
    html = str(mrkdwn.render(text, {}))
    for tag in ("strong", "em", "s", "code", "pre", "br", "blockquote", "span", "a"):
        html = html.replace(f"</{tag}>", "").replace(f"<{tag}>", "")
    html = html.replace('<span class="mention">', "").replace('<span class="mention loud">', "")
    assert "<" not in html.replace('<a href="', "")
    assert 'href="javascript' not in html
