"""Record ids that look like the CRM's own."""

from __future__ import annotations

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def checksum(id15: str) -> str:
    """The three characters Salesforce appends to a case-sensitive 15-character id to make it case-insensitive."""
    return "".join(
        _ALPHABET[sum(1 << place for place, letter in enumerate(id15[block : block + 5]) if letter.isupper())]
        for block in (0, 5, 10)
    )


def record_id(prefix: str, number: int) -> str:
    """18-character id of the `number`-th simulated record of an object (`prefix`: 001 Account, 005 User, …)."""
    id15 = f"{prefix}Sim{number:09d}"
    return id15 + checksum(id15)
