"""Salesforce as a CRM: client, transport, writes in collections or bulk jobs, and our own fields."""

from onetouch.crm.salesforce.client import Salesforce
from onetouch.crm.salesforce.fields import HANDOFF_ID, OUTCOME, REQUIRED_FIELDS

__all__ = ["HANDOFF_ID", "OUTCOME", "REQUIRED_FIELDS", "Salesforce"]
