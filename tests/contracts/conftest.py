"""The small company and its CRM and chat stand-ins, of `tests/delivery/world.py`."""

from tests.delivery.world import make_world, new_ledger, org, policy, running_org, world

__all__ = ["make_world", "new_ledger", "org", "policy", "running_org", "world"]
