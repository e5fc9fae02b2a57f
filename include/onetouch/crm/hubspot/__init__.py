"""HubSpot as a CRM: client, transport, reading of records, writing of rows, and our own properties."""

from onetouch.crm.hubspot.client import HubSpot

__all__ = ["HubSpot"]
