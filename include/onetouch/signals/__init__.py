"""Turns events into daily activity (`activity`), reads files of accounts (`account_files`), and turns activity and the
account snapshot (`accounts`, `joining`) into one row per account (`account`, `build`).
"""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.signals.account_files import read_accounts
    from onetouch.signals.accounts import CRM, SNAPSHOT, AccountsError, normalise_accounts
    from onetouch.signals.activity import summed_for_ever
    from onetouch.signals.build import build, compute
    from onetouch.signals.enterprises import read_enterprises, with_enterprises
    from onetouch.signals.joining import other_domains

__all__ = [
    "CRM",
    "SNAPSHOT",
    "AccountsError",
    "build",
    "compute",
    "normalise_accounts",
    "other_domains",
    "read_accounts",
    "read_enterprises",
    "summed_for_ever",
    "with_enterprises",
]
show(__name__)
