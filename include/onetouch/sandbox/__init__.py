"""Loopback stand-ins for the Salesforce, HubSpot, Slack and Amplitude APIs, built from their documentation.

Imports nothing of the product: it must not share the product's misunderstandings.
"""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.sandbox.server import serve

__all__ = ["serve"]
show(__name__)
