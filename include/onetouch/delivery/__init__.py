"""Writes to other systems: tasks and fields to a CRM, alerts to a chat; each is rechecked, then sent once."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.delivery.accounts import write_accounts
    from onetouch.delivery.alert_reps import alert_reps, no_page
    from onetouch.delivery.approval import Question, approved, question, wanted
    from onetouch.delivery.audience import AUDIENCE, given_to_marketing, send_audience
    from onetouch.delivery.back_off import back_off
    from onetouch.delivery.breaker import held
    from onetouch.delivery.deliver import deliver_tasks
    from onetouch.delivery.failure import DeliveryFailed
    from onetouch.delivery.presses import pressed
    from onetouch.delivery.reconcile import reconcile
    from onetouch.delivery.webhook import CONNECTION, Webhook

__all__ = [
    "AUDIENCE",
    "CONNECTION",
    "DeliveryFailed",
    "Question",
    "Webhook",
    "alert_reps",
    "approved",
    "back_off",
    "deliver_tasks",
    "given_to_marketing",
    "held",
    "no_page",
    "pressed",
    "question",
    "reconcile",
    "send_audience",
    "wanted",
    "write_accounts",
]
show(__name__)
