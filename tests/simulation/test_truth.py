"""The pipeline reads of the simulated company what is true of it: rows, accounts, activation, checkouts."""

from datetime import UTC, datetime, timedelta

import duckdb
import pandas as pd
import pytest
from onetouch import events, signals, sources
from onetouch.lake import Lake
from onetouch.ledger import Ledger
from onetouch.policy import read_policy
from onetouch.simulation import simulate

AS_OF = datetime(2025, 7, 7, 8, tzinfo=UTC)
REASON = {
    "broken_json": "broken_json",
    "unknown_shape": "not_an_object",
    "no_user": "no_user_and_no_account",
    "absurd_time_past": "before_product",
    "absurd_time_future": "after_receipt",
}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """What simulate said, what the pipeline counted, and its signals."""
    home = tmp_path_factory.mktemp("truth")
    simulate(home / "company", seed=2, start=AS_OF - timedelta(days=35), until=AS_OF, accounts=80)
    policy, lake, ledger = read_policy(None), Lake(home / "lake"), Ledger(f"sqlite:///{home / 'ledger.db'}")
    ledger.migrate()
    run = ledger.begin_run(AS_OF, policy, False)
    sources.extract("amplitude", lake, ledger, policy, run, folder=home / "company" / "exports")
    staged = events.stage(lake, ledger, policy, run)
    rows = staged["rows"] | {"repaired": staged["repaired"]}
    nobody = pd.DataFrame({name: pd.Series(dtype="object") for name in (*signals.SNAPSHOT, *signals.CRM)})
    table, _ = signals.compute(lake, policy, nobody, AS_OF)
    truth = {name: pd.read_parquet(home / "company" / "truth" / f"{name}.parquet") for name in ("accounts", "rows")}
    kept = duckdb.sql(f"SELECT DISTINCT account_id, account_basis FROM '{home}/lake/events/*/*.parquet'").df()
    return truth, rows, table.to_pandas(), kept


def test_every_row_is_kept_or_refused_for_what_was_done_to_it(read):
    truth, rows, _, _ = read
    n = truth["rows"].set_index("kind")["n"]
    assert rows["kept"] == n["good"] + n["over_long"], "a comment too long costs itself, not its event"
    assert rows["repaired"] == ({"value_too_long": n["over_long"]} if n["over_long"] else {})
    assert rows["duplicates"] == n["duplicate"]
    assert rows["quarantined"] == {REASON[kind]: n[kind] for kind in REASON if n[kind]}
    assert rows["in"] == n[["good", "duplicate", "over_long", *REASON]].sum()


def test_every_account_is_found_on_its_basis_and_no_other(read):
    truth, _, _, kept = read
    found = dict(kept.itertuples(index=False, name=None))
    expected = truth["accounts"].set_index("account_id")["account_basis"]
    assert set(found) <= set(expected.index)
    assert len(found) >= len(expected) - 2  # the last hour's sign-ups may still be on their way
    assert all(expected[account] == basis for account, basis in found.items())


def test_activation_and_checkouts_are_as_they_were(read):
    truth, _, table, _ = read
    both = truth["accounts"].merge(table, on="account_id", suffixes=("_true", ""))
    assert (both["activated_true"] == both["activated"].eq(1)).mean() > 0.99
    state = both["checkout_state"].replace({"started": "in_progress", "stalled": "in_progress"})
    assert (state == both["checkout_state_true"]).mean() > 0.99
