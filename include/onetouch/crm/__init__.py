"""One protocol for every CRM (`protocol`), and what implements it: Salesforce, HubSpot."""

from onetouch.crm.protocol import CrmError

__all__ = ["CrmError"]
