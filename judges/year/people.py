"""People of the company's customers who opt out during the year.

Most customers have nobody in the CRM. Of some, the one person there is, who is also their most active user, asks in the
CRM neither to be called nor to be written to; some do so between a run's decision and its delivery. The later policies
list some customers, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

import numpy as np
from onetouch.crm import Row

from judges.year.company import DAY, NEVER, Company, microseconds, moment

NEVER_CONTACT = 11
"""The number of the guarantee."""

SHARE = 0.03
"""The share of customers of whom somebody is in the CRM and opts out, most of them in the course of the year."""


def listed(accounts: int) -> list[str]:
    """Domains of partners among the customers, as a policy lists them."""
    return [f"org{i}.example, a partner" for i in range(0, accounts, 97)]


class People:
    """When the person of an account opted out: NEVER as long as nobody did."""

    def __init__(self, company: Company) -> None:
        self.company = company
        rng = self.rng = np.random.default_rng(company.size.seed + 11)
        n, length = company.size.accounts, company.size.days * DAY
        self.known = (rng.random(n) < SHARE) & (company.crm_id != np.array(None))
        start = microseconds(company.start)
        self.out = np.where(self.known, start + rng.integers(-length // 4, length, n), NEVER)

    def provoke(self, accounts: Iterable[int], after: datetime) -> int:
        """Lets the people of some accounts opt out right after a run has decided to call them. Returns how many."""
        chosen = [account for account in accounts if self.rng.random() < SHARE and self.out[account] == NEVER]
        for account in chosen:
            if self.company.crm_id[account] is not None:
                self.known[account], self.out[account] = True, microseconds(after) + 60_000_000
        return len(chosen)

    def rows(self, now: datetime, records: Collection[str] | None = None) -> Iterator[Row]:
        """The rows of `Crm.read_contacts` at that moment; `records`: only those of these accounts."""
        for account in np.flatnonzero(self.known):
            crm_id = self.company.crm_id[account]
            if records is None or crm_id in records:
                out = bool(self.out[account] <= microseconds(now))
                changed = moment(int(self.out[account])) if out else self.company.start
                yield {
                    "contact_id": f"003{account:015d}", "kind": "contact", "crm_account_id": crm_id,
                    "email": f"somebody@org{account}.example", "name": "Somebody", "title": None,
                    "do_not_call": out, "email_opt_out": out, "is_deleted": False, "changed_at": changed,
                }  # fmt: skip
