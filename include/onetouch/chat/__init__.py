"""Where people are told: one chat, Slack."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.chat.slack import Slack, SlackError, post_report

__all__ = ["Slack", "SlackError", "post_report"]
show(__name__)
