"""Amounts of an org with several currencies, in the currency of the policy.

A rate is the number of units for one of the corporate currency. Accounts go by the rate of today (CurrencyType); an
opportunity goes by the rate of its close date where the org keeps dated ones (DatedConversionRate).
"""

from __future__ import annotations

from collections import Counter
from datetime import date

from onetouch.crm.protocol import Refused, Tell
from onetouch.crm.salesforce.transport import Record, Transport

CODE = "CurrencyIsoCode"


class Currencies:
    """The conversion into `currency` (ISO code; None: none is made). Amounts that could not be are counted."""

    def __init__(self, transport: Transport, currency: str | None) -> None:
        self._transport, self.currency = transport, currency
        self._rates: dict[str, float] | None = None
        self._dated: list[tuple[str, date, date, float]] = []
        self._unknown: Counter[str] = Counter()

    def columns(self, thing: str) -> list[str]:
        """The field of a record's currency, where the org has several."""
        return [CODE] if self.currency and CODE in (self._transport.fields(thing) or {}) else []

    def converted(self, amount: float | None, record: Record, on: str | None = None) -> float | None:
        """The amount of a record in the policy's currency; None when it is unknown. `on`: its day, as ISO text."""
        code = record.get(CODE)
        if amount is None or not self.currency or not code or code == self.currency:
            return amount
        of, to = self._rate(code, on), self._rate(self.currency, on)
        if not of or not to:
            self._unknown[code] += 1
            return None
        return round(amount / of * to, 2)

    def tell(self, thing: str, tell: Tell) -> None:
        """Tells how many amounts were not converted since it was asked last."""
        if self._unknown:
            codes = ", ".join(f"{n} in {code}" for code, n in sorted(self._unknown.items()))
            tell(
                f"{thing}: {sum(self._unknown.values())} amounts could not be converted into {self.currency} and are "
                f"unknown ({codes}): give the org an active rate of each, or set crm.currency to one that it has"
            )
        self._unknown.clear()

    def priced(self, record: Record) -> Record:
        """A new record whose Amount is in the policy's currency, with that currency; without the amount where the org
        does not have the currency, since it would be read as another's."""
        if "Amount" not in record or not self.columns("Opportunity"):
            return record
        if self._rate(str(self.currency), None):
            return record | {CODE: self.currency}
        return {name: value for name, value in record.items() if name != "Amount"}

    def _rate(self, code: str, on: str | None) -> float | None:
        if self._rates is None:
            self._read()
        if on:
            day = date.fromisoformat(on[:10])
            for of, start, end, rate in self._dated:
                if of == code and start <= day < end:
                    return rate
        return (self._rates or {}).get(code)

    def _read(self) -> None:
        soql = "SELECT IsoCode, ConversionRate FROM CurrencyType WHERE IsActive = true"
        self._rates = {row["IsoCode"]: float(row["ConversionRate"]) for row in self._maybe(soql)}
        soql = "SELECT IsoCode, StartDate, NextStartDate, ConversionRate FROM DatedConversionRate"
        self._dated = [
            (
                row["IsoCode"],
                date.fromisoformat(row["StartDate"]),
                date.fromisoformat(row["NextStartDate"] or "9999-12-31"),
                float(row["ConversionRate"]),
            )
            for row in self._maybe(soql)
        ]

    def _maybe(self, soql: str) -> list[Record]:
        """The records of an object that an org may not have, or not show."""
        try:
            return list(self._transport.query(soql))
        except Refused:
            return []
