"""The rules of engagement: what may be said (`schema`), the defaults (`default.yaml`), reading them (`read`)."""

from onetouch.policy.read import PolicyError, read_policy
from onetouch.policy.schema import Condition, Policy

__all__ = ["Condition", "Policy", "PolicyError", "read_policy"]
