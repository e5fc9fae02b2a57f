"""Salesforce as a CRM: client, transport, rows in collections or bulk jobs, and the fields that are ours."""

from onetouch.crm.salesforce.client import Salesforce
from onetouch.crm.salesforce.fields import HANDOFF_ID, OUTCOME, REQUIRED_FIELDS

__all__ = ["HANDOFF_ID", "OUTCOME", "REQUIRED_FIELDS", "Salesforce"]
