"""The Slack stand-in answers as the real one, to Slack's own client."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from onetouch.sandbox.fields import build_org
from onetouch.sandbox.slack import Slack as StandIn
from onetouch.sandbox.store import Store
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from tests.sandbox.conftest import Sandbox

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 40
ALERTS, LEADERS = "C0ALERTS", "C0LEADERS"


def section(text: str = "hello") -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def refused(client: WebClient, **message: Any) -> Any:
    with pytest.raises(SlackApiError) as caught:
        client.chat_postMessage(**{"channel": ALERTS, "text": "hello"} | message)
    assert caught.value.response.status_code == 200
    assert caught.value.response["ok"] is False
    return caught.value.response


@pytest.fixture
def slack(sandbox: Sandbox) -> WebClient:
    sandbox.admin("limits", {"slack_burst": 1000})
    return sandbox.slack()


def test_the_token_is_checked(sandbox: Sandbox) -> None:
    for header, error in (({}, "not_authed"), ({"Authorization": "Bearer xoxb-other"}, "invalid_auth")):
        answer = requests.post(f"{sandbox.url}/api/auth.test", headers=header, timeout=20)
        assert (answer.status_code, answer.json()) == (200, {"ok": False, "error": error})
    assert sandbox.slack().auth_test()["user_id"] == "U0ONETOUCH"
    unknown = requests.post(
        f"{sandbox.url}/api/chat.shout", headers={"Authorization": "Bearer xoxb-sandbox"}, timeout=20
    )
    assert unknown.json() == {"ok": False, "error": "unknown_method", "req_method": "chat.shout"}


def test_a_message_is_found_again_by_its_metadata(slack: WebClient) -> None:
    metadata = {"event_type": "alert", "event_payload": {"key": "k1"}}
    sent = [slack.chat_postMessage(channel=ALERTS, text=f"m{i}", metadata=metadata) for i in range(5)]
    times = [m["ts"] for m in sent]
    assert len(set(times)) == 5  # under a standing clock too
    assert times == sorted(times)
    assert times[0].startswith("1740996000.")

    bare = slack.conversations_history(channel=ALERTS)["messages"]
    assert [m["text"] for m in bare] == ["m4", "m3", "m2", "m1", "m0"]
    assert not any("metadata" in m for m in bare)
    pages, cursor = [], None
    while True:
        page = slack.conversations_history(channel=ALERTS, include_all_metadata=True, limit=2, cursor=cursor)
        pages.append([m["metadata"]["event_payload"]["key"] for m in page["messages"]])
        cursor = page["response_metadata"]["next_cursor"]
        if not cursor:
            break
    assert pages == [["k1", "k1"], ["k1", "k1"], ["k1"]]
    since = slack.conversations_history(channel=ALERTS, oldest=times[2], inclusive=True)["messages"]
    assert [m["ts"] for m in since] == times[:1:-1]


def test_a_thread_is_apart_from_the_channel(slack: WebClient) -> None:
    root = slack.chat_postMessage(channel=LEADERS, text="report")["ts"]
    slack.chat_postMessage(channel=LEADERS, text="details", thread_ts=root)
    history = slack.conversations_history(channel=LEADERS)["messages"]
    assert [(m["text"], m["reply_count"]) for m in history] == [("report", 1)]
    assert [m["text"] for m in slack.conversations_replies(channel=LEADERS, ts=root)["messages"]] == [
        "report",
        "details",
    ]
    assert refused(slack, channel=LEADERS, thread_ts="1.000001")["error"] == "thread_not_found"


def test_a_message_is_corrected_in_place(slack: WebClient) -> None:
    ts = slack.chat_postMessage(channel=ALERTS, text="wrong", blocks=[section("wrong")])["ts"]
    slack.chat_update(channel=ALERTS, ts=ts, text="right", blocks=[section("right")])
    (message,) = slack.conversations_history(channel=ALERTS)["messages"]
    assert (message["text"], message["blocks"][0]["text"]["text"]) == ("right", "right")
    assert message["edited"]["user"] == "U0ONETOUCH"
    with pytest.raises(SlackApiError, match="message_not_found"):
        slack.chat_update(channel=ALERTS, ts="1.000001", text="x")
    assert slack.chat_update(channel=ALERTS, ts=ts, text="x" * 4_000)["ok"]
    with pytest.raises(SlackApiError, match="msg_too_long"):  # a tenth of what a new one may hold
        slack.chat_update(channel=ALERTS, ts=ts, text="x" * 4_001)


@pytest.mark.parametrize(
    ("channel", "error"),
    [("#sales-alerts", "channel_not_found"), ("C0NOWHERE", "channel_not_found"), ("C0RANDOM", "not_in_channel")],
)
def test_a_channel_is_an_id_one_is_in(slack: WebClient, channel: str, error: str) -> None:
    assert refused(slack, channel=channel)["error"] == error


def test_a_rep_is_found_by_mail_and_written_to(slack: WebClient) -> None:
    user = slack.users_lookupByEmail(email="Ann@acme.example")["user"]
    assert user["profile"]["real_name"] == "Ann Rep"
    direct = slack.conversations_open(users=user["id"])["channel"]["id"]
    assert slack.chat_postMessage(channel=user["id"], text="hi")["channel"] == direct
    for email in ("gone@acme.example", "nobody@acme.example"):  # deactivated is as good as absent
        with pytest.raises(SlackApiError, match="users_not_found"):
            slack.users_lookupByEmail(email=email)


ITEM = section()["text"]
LONG = {"type": "mrkdwn", "text": "x" * 2001}
TITLE = {"type": "plain_text", "text": "x" * 151}


def button(name: str, value: str = "v", said: str = "Press") -> dict[str, Any]:
    text = {"type": "plain_text", "text": said}
    return {"type": "button", "action_id": name, "text": text, "value": value}


def actions(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"type": "actions", "elements": list(elements)}


@pytest.mark.parametrize(
    ("block", "at", "problem"),
    [
        (section("x" * 3001), "/text/text", "must be less than 3001 characters"),
        (section(""), "/text/text", "must be more than 0 characters"),
        ({"type": "section"}, "", "must provide at least one of: text, fields"),
        ({"type": "section", "fields": [ITEM] * 11}, "/fields", "must be a list of 1 to 10 items"),
        ({"type": "section", "fields": [LONG]}, "/fields/0/text", "must be less than 2001 characters"),
        ({"type": "header", "text": ITEM}, "/text/type", "must be one of: plain_text"),
        ({"type": "header", "text": TITLE}, "/text/text", "must be less than 151 characters"),
        ({"type": "context", "elements": [ITEM] * 11}, "/elements", "must be a list of 1 to 10 items"),
        ({"type": "image", "slack_file": {"id": "F0"}, "alt_text": "a"}, "/slack_file", "invalid slack file"),
        ({"type": "image", "image_url": "https://x.example/a.png"}, "/alt_text", "must be a string"),
        (actions(), "/elements", "must be a list of 1 to 25 items"),
        (actions(*[button(f"b{n}") for n in range(26)]), "/elements", "must be a list of 1 to 25 items"),
        (actions(button("a"), button("a")), "/elements/1/action_id", "`action_id` must be unique within its block"),
        (actions(button("a" * 256)), "/elements/0/action_id", "must be less than 256 characters"),
        (actions(button("a", value="x" * 2001)), "/elements/0/value", "must be less than 2001 characters"),
        (actions(button("a", said="x" * 76)), "/elements/0/text/text", "must be less than 76 characters"),
        (actions(button("a") | {"style": "default"}), "/elements/0/style", "must be one of: primary, danger"),
        (actions(button("a") | {"color": "red"}), "/elements/0", "invalid additional property: color"),
        ({"type": "table"}, "/type", "unsupported type: table"),
        (section() | {"color": "red"}, "", "invalid additional property: color"),
        ("text", "", "must be an object"),
    ],
)  # fmt: skip
def test_a_wrong_block_is_named(slack: WebClient, block: Any, at: str, problem: str) -> None:
    answer = refused(slack, blocks=[block])
    assert answer["error"] == "invalid_blocks"
    assert answer["response_metadata"]["messages"] == [f"[ERROR] {problem} [json-pointer:/blocks/0{at}]"]


@pytest.mark.filterwarnings("ignore:The top-level `text` argument is missing")
def test_the_limits_of_a_message(slack: WebClient) -> None:
    assert refused(slack, blocks=[section()] * 51)["error"] == "invalid_blocks"
    assert refused(slack, blocks=[section("x" * 2700)] * 5)["error"] == "msg_blocks_too_long"
    assert refused(slack, blocks="[{")["error"] == "invalid_blocks_format"
    assert refused(slack, text="x" * 40_001)["error"] == "msg_too_long"
    assert refused(slack, text="")["error"] == "no_text"
    assert refused(slack, metadata={"event_type": "a"})["error"] == "invalid_metadata_schema"
    assert (
        refused(slack, metadata={"event_type": "a", "event_payload": {}, "x": 1})["error"] == "invalid_metadata_format"
    )
    assert slack.chat_postMessage(channel=ALERTS, text="x" * 40_000, blocks=[section("x" * 3000)] * 4)["ok"]


def test_a_picture_can_be_shown_once_it_is_processed(slack: WebClient, sandbox: Sandbox) -> None:
    file = slack.files_upload_v2(content=PNG, filename="chart.png", title="Chart", alt_txt="A line")["file"]
    assert file["mimetype"] == ""
    picture = {"type": "image", "slack_file": {"id": file["id"]}, "alt_text": "A line"}
    assert refused(slack, blocks=[picture])["error"] == "invalid_blocks"
    kinds = [slack.files_info(file=file["id"])["file"]["mimetype"] for _ in range(2)]
    assert kinds == ["", "image/png"]
    slack.chat_postMessage(channel=LEADERS, text="chart", blocks=[picture])
    shown = sandbox.http.get(f"{sandbox.url}/slack/files/{file['id']}", timeout=20)
    assert (shown.content, shown.headers["Content-Type"]) == (PNG, "image/png")
    assert [f["id"] for f in slack.files_list()["files"]] == [file["id"]]


def test_an_upload_must_be_complete(slack: WebClient, sandbox: Sandbox) -> None:
    place = slack.files_getUploadURLExternal(filename="a.png", length=len(PNG))
    with pytest.raises(SlackApiError, match="file_not_found"):
        slack.files_completeUploadExternal(files=[{"id": place["file_id"]}])
    assert requests.post(place["upload_url"], data=PNG[:-1], timeout=20).status_code == 400
    assert requests.post(place["upload_url"], files={"file": PNG}, timeout=20).status_code == 200
    slack.files_completeUploadExternal(files=[{"id": place["file_id"], "title": "T"}], channel_id=ALERTS)
    (message,) = slack.conversations_history(channel=ALERTS)["messages"]
    assert message["files"][0]["title"] == "T"
    assert requests.post(place["upload_url"], data=PNG, timeout=20).status_code == 404


def test_a_channel_takes_a_message_a_second(sandbox: Sandbox) -> None:
    sandbox.admin("limits", {"slack_burst": 2, "slack_per_second": 0.05})
    client = sandbox.slack()
    for _ in range(2):
        client.chat_postMessage(channel=ALERTS, text="x")
    with pytest.raises(SlackApiError) as caught:
        client.chat_postMessage(channel=ALERTS, text="x")
    assert (caught.value.response.status_code, caught.value.response["error"]) == (429, "ratelimited")
    assert 15 <= int(caught.value.response.headers["Retry-After"]) <= 20
    client.chat_postMessage(channel=LEADERS, text="another channel is free")
    assert len(sandbox.admin("state")["posts"]) == 3


def test_the_state_tells_who_a_post_would_have_woken(sandbox: Sandbox) -> None:
    client = sandbox.slack()
    client.chat_postMessage(channel=ALERTS, text="x", blocks=[section("<!channel> look")])
    client.chat_postMessage(channel=ALERTS, text="&lt;!channel&gt; is only a name")
    assert [post["notifies"] for post in sandbox.admin("state")["posts"]] == [["channel"], []]


def test_form_and_json_are_the_same(slack: WebClient, sandbox: Sandbox) -> None:
    form = {"channel": ALERTS, "text": "hi", "blocks": json.dumps([section()]), "token": "xoxb-sandbox"}
    assert requests.post(f"{sandbox.url}/api/chat.postMessage", data=form, timeout=20).json()["ok"]
    (message,) = slack.conversations_history(channel=ALERTS)["messages"]
    assert message["blocks"] == [section()]


def test_what_the_bot_may_not_do_is_named(slack: WebClient, sandbox: Sandbox) -> None:
    ann = slack.users_lookupByEmail(email="ann@acme.example")["user"]["id"]
    direct = slack.conversations_open(users=ann)["channel"]["id"]
    sandbox.admin("slack", {"scopes": ["chat:write", "channels:history"]})
    for call, needed in [
        (lambda: slack.users_lookupByEmail(email="ann@acme.example"), "users:read.email"),
        (lambda: slack.conversations_open(users=ann), "im:write"),
        (lambda: slack.conversations_history(channel=direct), "im:history"),
    ]:
        with pytest.raises(SlackApiError, match="missing_scope") as caught:
            call()
        answer = caught.value.response
        assert (answer["needed"], answer["provided"]) == (needed, "chat:write,channels:history")
    assert slack.chat_postMessage(channel=direct, text="hi")["ok"]
    wrong = requests.post(f"{sandbox.url}/_sandbox/slack", json={"scopes": ["admin"]}, timeout=20)
    assert (wrong.status_code, "chat:write" in wrong.text) == (400, True)


def test_an_archived_channel_takes_no_message_and_no_change(slack: WebClient, sandbox: Sandbox) -> None:
    ts = slack.chat_postMessage(channel=ALERTS, text="before")["ts"]
    sandbox.admin("slack", {"archived": [ALERTS]})
    assert refused(slack)["error"] == "is_archived"
    with pytest.raises(SlackApiError, match="is_inactive"):
        slack.chat_update(channel=ALERTS, ts=ts, text="after")
    assert slack.conversations_info(channel=ALERTS)["channel"]["is_archived"]
    assert [m["text"] for m in slack.conversations_history(channel=ALERTS)["messages"]] == ["before"]


def test_a_message_is_changed_where_it_stands_and_only_by_its_author(slack: WebClient) -> None:
    metadata = {"event_type": "alert", "event_payload": {"key": "k1"}}
    ts = slack.chat_postMessage(channel=ALERTS, text="before", blocks=[section()], metadata=metadata)["ts"]
    slack.chat_update(channel=ALERTS, ts=ts, text="after", blocks=[rich(word("after"))])
    (message,) = slack.conversations_history(channel=ALERTS, include_all_metadata=True)["messages"]
    assert (message["ts"], message["text"], message["metadata"]) == (ts, "after", metadata)
    assert message["edited"]["user"] == "U0ONETOUCH"
    with pytest.raises(SlackApiError, match="message_not_found"):
        slack.chat_update(channel=ALERTS, ts="1.000000", text="x")
    store = Store(None, build_org({}))
    content = {"text": "a person's", "blocks": None, "metadata": None}
    with store.transaction():
        its = StandIn(store)
        its._store(ALERTS, "1.000000", None, content, None)
    store.db.execute("UPDATE message SET sender = 'U0ANN'")
    given = {"channel": ALERTS, "ts": "1.000000", "text": "x"}
    assert its.request("chat.update", given, "Bearer xoxb-sandbox", "http://x")[1]["error"] == "cant_update_message"


def word(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text} | more


def rich(*elements: dict[str, Any], kind: str = "rich_text_section") -> dict[str, Any]:
    return {"type": "rich_text", "elements": [{"type": kind, "elements": list(elements)}]}


@pytest.mark.parametrize(
    ("block", "at", "problem"),
    [
        ({"type": "rich_text", "elements": []}, "/elements", "must be a list of rich text elements"),
        (rich(kind="rich_text_verse"), "/elements/0/type", "unsupported type: rich_text_verse"),
        (rich(word("")), "/elements/0/elements/0/text", "must be more than 0 characters"),
        (rich(section()), "/elements/0/elements/0/type", "unsupported type: section"),
        (rich(word(style={"loud": True})), "/elements/0/elements/0/style", "invalid style"),
        (rich(word(), kind="rich_text_list"), "/elements/0/style", "must be one of: bullet, ordered"),
        (rich({"type": "user"}), "/elements/0/elements/0/user_id", "must be a string"),
    ],
)  # fmt: skip
def test_a_wrong_piece_of_rich_text_is_named(slack: WebClient, block: Any, at: str, problem: str) -> None:
    messages = refused(slack, blocks=[block])["response_metadata"]["messages"]
    assert f"[ERROR] {problem} [json-pointer:/blocks/0{at}]" in messages


def test_only_what_slack_reads_as_a_command_wakes_anybody(sandbox: Sandbox) -> None:
    sandbox.admin("limits", {"slack_burst": 1000})
    client = sandbox.slack()
    for text, blocks in [
        ("<!here>", []),
        ("<!here>", [rich(word("<!channel>"))]),
        ("x", [section("<!everyone>")]),
        ("x", [rich({"type": "broadcast", "range": "channel"})]),
        ("x", [{"type": "context", "elements": [{"type": "plain_text", "text": "<!here>"}]}]),
    ]:
        client.chat_postMessage(channel=ALERTS, text=text, blocks=blocks)
    woken = [post["notifies"] for post in sandbox.admin("state")["posts"]]
    assert woken == [["here"], [], ["everyone"], ["channel"], []]
