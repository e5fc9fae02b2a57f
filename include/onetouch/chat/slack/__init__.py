"""Slack as a chat: its client, and the conversion of messages to Slack's blocks."""

from onetouch.chat.slack.blocks import escape
from onetouch.chat.slack.client import UPDATE_TEXT, Client, Slack

__all__ = ["UPDATE_TEXT", "Client", "Slack", "escape"]
