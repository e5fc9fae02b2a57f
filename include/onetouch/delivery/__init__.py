"""What leaves the house: tasks and fields into a CRM, alerts into a chat; each sent once, checked before it is."""

from onetouch.delivery.alert_reps import alert_reps
from onetouch.delivery.back_off import back_off
from onetouch.delivery.deliver import deliver_tasks
from onetouch.delivery.failure import DeliveryFailed
from onetouch.delivery.reconcile import reconcile

__all__ = ["DeliveryFailed", "alert_reps", "back_off", "deliver_tasks", "reconcile"]
