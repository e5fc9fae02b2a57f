"""What leaves the house, and what comes back: a CRM (Salesforce, HubSpot: tasks, fields, touches) and Slack."""

from onetouch.delivery.accounts_file import extract_accounts_file
from onetouch.delivery.alert_reps import alert_reps
from onetouch.delivery.back_off import back_off
from onetouch.delivery.crm import CrmError
from onetouch.delivery.deliver import deliver_tasks
from onetouch.delivery.extract_crm import extract_crm
from onetouch.delivery.failure import DeliveryFailed
from onetouch.delivery.reconcile import reconcile
from onetouch.delivery.salesforce import Salesforce
from onetouch.delivery.slack import Slack, SlackError, post_report

__all__ = [
    "CrmError",
    "DeliveryFailed",
    "Salesforce",
    "Slack",
    "SlackError",
    "alert_reps",
    "back_off",
    "deliver_tasks",
    "extract_accounts_file",
    "extract_crm",
    "post_report",
    "reconcile",
]
