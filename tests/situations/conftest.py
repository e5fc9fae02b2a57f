"""The stand-in and the empty ledger that the situations need, of `tests/delivery/world.py`."""

from tests.delivery.world import new_ledger, org, running_org

__all__ = ["new_ledger", "org", "running_org"]
