"""What every registered chat promises, whichever it is: each test runs against the stand-in of each."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from onetouch.chat import (
    CHATS,
    Bullets,
    Chat,
    ChatError,
    Emoji,
    Footnote,
    Lines,
    Mention,
    Message,
    Paragraph,
    Picture,
    Place,
    Rule,
    Text,
    Title,
    check_chat,
    connect,
    message,
    post_once,
)
from onetouch.delivery import alert_reps
from onetouch.policy import Policy, PolicyError, read_policy
from onetouch.report import Chart, Report, post_report
from onetouch.stop import Stopped, WhyStopped, never
from PIL import Image

from tests.contracts.chat_stand_ins import StandIn, stand_in
from tests.delivery.test_alert_reps import assigned

HOSTILE = "<!channel> & <https://evil.example|click> *x* `y`"


class Side:
    """A chat's stand-in, and clients of ours for it."""

    def __init__(self, name: str, there: StandIn, world: Any) -> None:
        self.name, self.there, self.world = name, there, world
        self.policy: Policy = world.policy.changed(
            chat=name, slack__alerts_channel=there.channel, slack__leadership_channel=there.other,
            slack__quiet_from=None,
        )  # fmt: skip

    def client(self, stopped: WhyStopped = never) -> Chat:
        return connect(self.there.connection, self.policy, stopped=stopped, sleep=lambda _: None)

    def say(self, text: str = "hello", key: str = "k", channel: str | None = None, **given: Any) -> Place:
        where = channel or self.there.channel
        return post_once(self.client(), self.world.ledger, message(text), key=key, kind="alert", channel=where, **given)


TOYS = {"toy_chat": ("toy_chat_default", "tests.contracts.toys.toy_chat:ToyChat")}
"""What a chat takes: the file, and the line by which it is registered."""


@pytest.fixture(params=[*CHATS, *TOYS])
def side(request: pytest.FixtureRequest, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    for name, registered in TOYS.items():
        monkeypatch.setitem(CHATS, name, registered)
    folder = tmp_path / "chat"
    folder.mkdir()
    return Side(request.param, stand_in(request.param, world, folder), world)


def picture() -> Chart:
    content = io.BytesIO()
    Image.new("RGB", (40, 30)).save(content, "PNG")
    return Chart("volume", "12 PQLs", "a line that rises", content.getvalue())


def test_a_message_can_be_opened(side: Side) -> None:
    place = side.say()
    assert str(side.client().link(place)).startswith("http")
    assert place.message in side.client().link(place)


# ── the registry ─────────────────────────────────────────────────────────────────────────────────


def test_a_chat_that_is_not_registered_is_named_with_those_that_are() -> None:
    with pytest.raises(PolicyError, match=r"chat: 'irc' is not allowed; allowed: slack"):
        check_chat(read_policy().changed(chat="irc"))


def test_its_name_is_the_one_it_is_registered_by(side: Side) -> None:
    assert side.client().name == side.name


# ── post, find, update ───────────────────────────────────────────────────────────────────────────


def test_something_is_said_once_for_a_key(side: Side) -> None:
    place = side.say()
    assert side.say("another text") == place
    other = side.say("more", key="other")
    assert [seen.place for seen in side.there.messages()] == [place, other]
    assert "hello" in side.there.messages()[0].words
    assert {(row.destination, row.state) for row in side.world.ledger.outbox()} == {(side.name, "sent")}


def test_a_message_is_found_by_its_key(side: Side) -> None:
    place = side.say()
    chat = side.client()
    assert chat.find(side.there.channel, "k") == place
    assert chat.find(side.there.channel, "another") is None
    assert chat.find(side.there.other, "k") is None
    assert Place.of(side.world.ledger.outbox(keys=["k"])[0]) == place


def test_all_kinds_of_parts_are_shown_and_nothing_in_them_acts(side: Side) -> None:
    rita = side.client().user("rita@rep.example")
    line = (Emoji("wave"), Text(HOSTILE, bold=True), Text(" struck", struck=True))
    parts = [
        Title(f"title {HOSTILE}"),
        Lines([line, (Text("second line"),)]),
        Bullets([line, (Text("item"),)], head=(Mention(str(rita)), Text(" head"))),
        Rule(),
        Paragraph([(Text("Decide:", bold=True), Text(" prose"))]),
        Paragraph([(Text("small print"),)], small=True),
        Footnote("footnote"),
    ]
    said = Message([(Text("text"),), (Text("second"),)], parts)
    post_once(side.client(), side.world.ledger, said, key="k", kind="alert", channel=side.there.channel)
    (seen,) = side.there.messages()
    for words in ("title", "struck", "second line", "item", "head", "Decide:", "prose", "small print", "footnote"):
        assert words in seen.words
    assert "evil.example" in seen.words
    assert "<https://evil.example" not in seen.words.replace(HOSTILE, "")  # rich and plain text shows it as it is


def test_a_reply_stands_in_its_thread(side: Side) -> None:
    first = side.say()
    reply = side.say("details", key="d", reply_to=first)
    assert side.client().find(side.there.channel, "d", first) == reply
    assert [seen.reply_to for seen in side.there.messages()] == [None, first.message]


def test_a_message_is_written_anew_where_it_stands(side: Side) -> None:
    place = side.say("before")
    for _ in range(2):
        side.client().update(place, message("after", Footnote("footnote")))
    (seen,) = side.there.messages()
    assert seen.place == place
    assert "after" in seen.words and "footnote" in seen.words and "before" not in seen.words
    assert side.client().find(side.there.channel, "k") == place


# ── when something goes wrong ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_whatever_is_lost_there_is_one_message(side: Side, lost: str) -> None:
    side.there.fails(lost)
    try:
        side.say()
    except ChatError as unknown:
        assert unknown.code == "no_answer"
    assert side.say() == side.say()
    assert len(side.there.messages()) == 1


def test_a_row_whose_sender_died_is_looked_for_before_it_is_posted(side: Side) -> None:
    posted = side.client().post(side.there.channel, message("hello"), key="k")
    row = side.world.ledger.put("k", side.name, "alert", None, None, {"channel": side.there.channel})
    assert side.world.ledger.claim(row)
    assert side.say() == posted
    assert len(side.there.messages()) == 1


def test_a_refusal_is_named_kept_and_tried_again_later(side: Side) -> None:
    side.there.refuses(side.there.channel)
    with pytest.raises(ChatError) as refused:
        side.say()
    assert refused.value.code and refused.value.is_hopeless
    (row,) = side.world.ledger.outbox(keys=["k"])
    assert (row.state, row.reason) == ("pending", refused.value.code)
    assert side.there.messages() == []
    assert side.say(channel=side.there.other).channel == side.there.other


def test_a_message_that_cannot_be_changed_any_more_says_so(side: Side) -> None:
    place = side.say()
    side.there.refuses(side.there.channel)
    with pytest.raises(ChatError) as refused:
        side.client().update(place, message("after"))
    assert refused.value.is_over


def test_a_dead_letter_is_not_posted_until_a_person_lays_it_out_again(side: Side) -> None:
    side.world.ledger.put("k", side.name, "alert", None, None, {"channel": side.there.channel})
    side.world.ledger.failed("k", "over", retryable=False)
    with pytest.raises(ChatError, match="outbox retry"):
        side.say()
    assert side.there.messages() == []


# ── people, pictures, the stop ───────────────────────────────────────────────────────────────────


def test_people_are_known_by_their_address(side: Side) -> None:
    chat = side.client()
    rita = chat.user("rita@rep.example")
    assert rita and chat.user("rita@rep.example") == rita
    assert chat.user(None) is chat.direct(None) is None
    direct = chat.direct(rita)
    assert direct and direct not in (side.there.channel, side.there.other)
    assert side.say(channel=direct).channel == direct


def test_a_picture_is_uploaded_and_shown(side: Side) -> None:
    picture_id = side.client().upload(picture())
    shown = message("see", Picture(picture_id, "12 PQLs", "a line that rises"))
    post_once(side.client(), side.world.ledger, shown, key="k", kind="alert", channel=side.there.channel)
    assert [seen.pictures for seen in side.there.messages()] == [1]


def test_while_it_is_stopped_nothing_is_said(side: Side) -> None:
    place = side.say()
    chat = side.client(stopped=lambda: "fire")
    for write in (
        lambda: chat.post(side.there.channel, message("more"), key="m"),
        lambda: chat.update(place, message("after")),
        lambda: chat.upload(picture()),
    ):
        with pytest.raises(Stopped, match="stopped: fire"):
            write()
    (seen,) = side.there.messages()
    assert "hello" in seen.words
    assert chat.find(side.there.channel, "k") == place


# ── the whole way ────────────────────────────────────────────────────────────────────────────────


def test_an_owner_hears_of_a_task_once_and_what_became_of_it(side: Side) -> None:
    world = side.world
    world.policy = side.policy
    run = assigned(world, 1)
    for _ in range(2):
        told = alert_reps(world.lake, world.ledger, side.policy, run, side.client(), now=run.as_of, held=None)
        assert (told["alerts"], told["posted"], told["failed"]) == (1, 1, [])
    (seen,) = side.there.messages()
    assert "Company 1" in seen.words and "rita@" not in seen.words
    world.ledger.move(world.handoff(1).handoff_id, "touched", run.as_of)
    told = alert_reps(world.lake, world.ledger, side.policy, run, side.client(), now=run.as_of, held=None)
    assert told["updated"] == 1
    (seen,) = side.there.messages()
    assert "Contacted" in seen.words


def test_the_report_is_one_message_with_its_pictures_and_details_in_the_thread(side: Side) -> None:
    details = Message([(Text("Week 46: 12 PQLs"),), (Text("PQL to close 3 of 12 (25 %)"),)])
    report = Report(message("Week 46: 12 PQLs", Title("Week 46")), details, [picture()])
    first = post_report(side.world.ledger, side.client(), side.policy, report, "weekly_report:2025-W46")
    assert post_report(side.world.ledger, side.client(), side.policy, report, "weekly_report:2025-W46") == first
    post, thread = side.there.messages()
    assert (post.place, post.pictures, post.reply_to) == (Place(side.there.other, first["ts"]), 1, None)
    assert thread.reply_to == first["ts"] and "25 %" in thread.words
    assert first == {"posted": True, "channel": side.there.other, "ts": post.place.message, "pictures": 1}
