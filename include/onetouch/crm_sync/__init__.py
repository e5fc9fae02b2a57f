"""What the CRM tells: accounts, reps, touches, opportunities, and what became of handoffs."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.crm_sync.accounts_file import extract_accounts_file
    from onetouch.crm_sync.extract_crm import extract_crm

__all__ = ["extract_accounts_file", "extract_crm"]
show(__name__)
