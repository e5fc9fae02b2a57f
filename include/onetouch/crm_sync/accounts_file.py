"""Accounts from a file instead of the CRM: the same tables in the lake, with no reps and no opportunities in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onetouch.crm_sync.extract_crm import OPPORTUNITIES, REPS, frame_of
from onetouch.lake import Lake
from onetouch.ledger import Ledger, Run
from onetouch.signals import CRM, SNAPSHOT, normalise_accounts, read_accounts


def extract_accounts_file(lake: Lake, ledger: Ledger, run: Run, file: Path) -> dict[str, Any]:
    """Writes `crm/{run_id}/{accounts,opportunities,reps}.parquet` from a file of accounts, without forgotten ones.

    Returns {"accounts", "opportunities", "reps", "warnings": what of the file was left out or read otherwise than
    written}. Raises AccountsError for a file that cannot be used.
    """
    warnings: list[str] = []
    accounts = ledger.forgotten().without(normalise_accounts(read_accounts(file, warnings.append)))
    lake.write(frame_of((), REPS), "crm", run.run_id, "reps.parquet")
    lake.write(accounts[[*SNAPSHOT, *CRM]], "crm", run.run_id, "accounts.parquet")
    lake.write(frame_of((), OPPORTUNITIES), "crm", run.run_id, "opportunities.parquet")
    return {"accounts": len(accounts), "opportunities": 0, "reps": 0, "warnings": warnings}
