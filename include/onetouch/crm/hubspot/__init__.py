"""HubSpot as a CRM: client, the way there, records read, rows written, and the properties that are ours."""

from onetouch.crm.hubspot.client import HubSpot

__all__ = ["HubSpot"]
