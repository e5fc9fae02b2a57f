"""Loopback stand-ins for the Salesforce, HubSpot, Slack and Amplitude APIs, built from their documentation.

The stand-ins import nothing of the product, so that they do not share its misunderstandings of the APIs.
"""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.sandbox.server import serve

__all__ = ["serve"]
show(__name__)
