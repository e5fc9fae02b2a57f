"""What leaves the house: tasks and fields into a CRM, alerts into a chat; each sent once, checked before it is."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.delivery.alert_reps import alert_reps
    from onetouch.delivery.back_off import back_off
    from onetouch.delivery.deliver import deliver_tasks
    from onetouch.delivery.failure import DeliveryFailed
    from onetouch.delivery.reconcile import reconcile

__all__ = ["DeliveryFailed", "alert_reps", "back_off", "deliver_tasks", "reconcile"]
show(__name__)
