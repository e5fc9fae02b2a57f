"""Where people are told: one chat, Slack."""

from onetouch.chat.slack import Slack, SlackError, post_report

__all__ = ["Slack", "SlackError", "post_report"]
