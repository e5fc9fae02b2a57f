"""Turns events into daily activity (`activity`), and activity and the account snapshot (`accounts`) into one row per
account (`account`, `build`).
"""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.signals.accounts import CRM, SNAPSHOT, AccountsError, normalise_accounts, read_accounts
    from onetouch.signals.build import build, compute

__all__ = ["CRM", "SNAPSHOT", "AccountsError", "build", "compute", "normalise_accounts", "read_accounts"]
show(__name__)
