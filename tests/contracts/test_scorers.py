"""What holds of every scorer that is registered, whatever it goes by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from onetouch.catalogue import MOMENTS, SIGNAL_NAMES
from onetouch.lake import Lake
from onetouch.policy import Policy, PolicyError, read_policy
from onetouch.scoring import check_scorer, kept_artefact, score_frame, scorer_of
from onetouch.scoring.artefacts import keep_artefact
from onetouch.scoring.scorers import SCORERS, scorer_named
from onetouch.scoring.scorers.protocol import TENTHS, Artefact, Scorer
from onetouch.workspace import usable_policy

AS_OF = datetime(2025, 3, 10, 9, tzinfo=UTC)
ACCOUNTS = 300

scorers = pytest.mark.parametrize("scorer", [scorer_named(name) for name in SCORERS], ids=list(SCORERS))


def policy_of(scorer: Scorer) -> Policy:
    return read_policy().changed(scoring__scorer=scorer.name)


@pytest.fixture(scope="module")
def signals() -> pd.DataFrame:
    """Accounts that use a lot, little or nothing, of which some is unknown."""
    rng = np.random.default_rng(11)
    scale = rng.choice([0.0, 0.5, 5.0, 50.0], size=(ACCOUNTS, 1))
    values = np.round(rng.exponential(1.0, (ACCOUNTS, len(SIGNAL_NAMES))) * scale, 2)
    values[rng.random(values.shape) < 0.2] = np.nan
    frame = pd.DataFrame(values, columns=list(SIGNAL_NAMES))
    for name in MOMENTS:
        ago = pd.Series(rng.integers(0, 60 * 24, ACCOUNTS)).map(lambda hours: timedelta(hours=int(hours)))
        frame[f"{name}_at"] = (pd.Timestamp(AS_OF) - ago).where(frame[name] > 0).astype("datetime64[us, UTC]")
    known = {"account_basis": "group", "domain": "acme.com", "employees": 80.0, "industry": None}
    return frame.assign(account_id=[f"a{n}" for n in range(ACCOUNTS)], **known)


def together(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores in the order of their accounts, reasons as plain lists."""
    plain = scores.assign(reasons=[list(reasons) for reasons in scores["reasons"]])
    return plain.sort_values("account_id").reset_index(drop=True)


@scorers
def test_its_name_is_what_a_policy_calls_it(scorer: Scorer) -> None:
    assert scorer_of(policy_of(scorer)) is scorer


@scorers
def test_what_it_earned_has_a_row_an_account_and_a_column_a_signal(scorer: Scorer, signals: pd.DataFrame) -> None:
    artefact = scorer.artefact(policy_of(scorer), None)
    earned = scorer.earned(signals, AS_OF, artefact)
    assert earned.values.shape == earned.tenths.shape == (len(signals), len(earned.signals))
    assert earned.tenths.dtype == np.int64
    assert (earned.tenths >= 0).all() and earned.tenths.any()
    assert len(set(earned.signals)) == len(earned.signals)
    assert set(earned.signals) <= set(SIGNAL_NAMES)
    needed = scorer.columns(artefact)
    assert set(earned.signals) <= set(needed)
    again = scorer.earned(signals[needed], AS_OF, artefact)  # it looks at nothing else
    np.testing.assert_array_equal(earned.tenths, again.tenths)
    np.testing.assert_array_equal(earned.values, signals[list(earned.signals)].to_numpy())


@scorers
def test_reasons_add_up_to_the_score_exactly(scorer: Scorer, signals: pd.DataFrame) -> None:
    scores = score_frame(signals, policy_of(scorer), AS_OF)
    for score, reasons in zip(scores["score"], scores["reasons"], strict=True):
        tenths = [round(reason["points"] * TENTHS) for reason in reasons]
        assert sum(tenths) / TENTHS == score
        assert all(t > 0 for t in tenths) and tenths == sorted(tenths, reverse=True)
        assert not any(np.isnan(reason["value"]) for reason in reasons)
    assert (scores["score"] > 0).any()


@scorers
def test_what_is_unknown_earns_nothing(scorer: Scorer, signals: pd.DataFrame) -> None:
    artefact = scorer.artefact(policy_of(scorer), None)
    earned = scorer.earned(signals, AS_OF, artefact)
    assert (earned.tenths[np.isnan(earned.values)] == 0).all()
    unknown = signals.assign(**dict.fromkeys(SIGNAL_NAMES, np.nan), **{f"{name}_at": pd.NaT for name in MOMENTS})
    assert not scorer.earned(unknown, AS_OF, artefact).tenths.any()


@scorers
def test_the_order_of_rows_means_nothing_and_nor_do_other_accounts(scorer: Scorer, signals: pd.DataFrame) -> None:
    policy = policy_of(scorer)
    scores = together(score_frame(signals, policy, AS_OF))
    shuffled = signals.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(together(score_frame(shuffled, policy, AS_OF)), scores)
    half = signals.iloc[::2]
    alone = scores[scores["account_id"].isin(half["account_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(together(score_frame(half, policy, AS_OF)), alone)


@scorers
def test_the_same_twice_and_what_it_was_given_is_as_it_was(scorer: Scorer, signals: pd.DataFrame) -> None:
    policy, before = policy_of(scorer), signals.copy()
    one, other = score_frame(signals, policy, AS_OF), score_frame(signals, policy, AS_OF)
    pd.testing.assert_frame_equal(together(one), together(other))
    pd.testing.assert_frame_equal(signals, before)


@scorers
def test_no_accounts_earn_nothing(scorer: Scorer, signals: pd.DataFrame) -> None:
    artefact = scorer.artefact(policy_of(scorer), None)
    earned = scorer.earned(signals.head(0), AS_OF, artefact)
    assert earned.values.shape == earned.tenths.shape == (0, len(earned.signals))
    assert score_frame(signals.head(0), policy_of(scorer), AS_OF).empty


@scorers
def test_the_same_policy_asks_for_the_same_artefact(scorer: Scorer) -> None:
    policy = policy_of(scorer)
    artefact = scorer.artefact(policy, None)
    again = scorer.artefact(Policy.model_validate(policy.document()), None)
    assert artefact == again and artefact.id == again.id
    assert artefact.scorer == scorer.name


@scorers
def test_the_artefact_of_a_run_is_found_again(scorer: Scorer, tmp_path: Path) -> None:
    lake, policy = Lake(tmp_path), policy_of(scorer)
    artefact = scorer.artefact(policy, lake)
    assert kept_artefact(lake, "before", policy) == artefact  # of a run of before artefacts were kept
    other = Artefact(scorer.name, artefact.content + b" ")
    for run, used in (("one", artefact), ("two", other), ("two", other)):
        keep_artefact(lake, run, used)
    assert kept_artefact(lake, "one", policy) == artefact
    assert kept_artefact(lake, "two", policy) == other  # whatever the policy says today
    assert len(lake.list("artefacts")) == 2


@scorers
def test_an_artefact_that_is_gone_or_another_is_named(scorer: Scorer, tmp_path: Path) -> None:
    lake, policy = Lake(tmp_path), policy_of(scorer)
    artefact = scorer.artefact(policy, lake)
    keep_artefact(lake, "run", artefact)
    file = Path(lake.path("artefacts", f"{artefact.id}.parquet"))
    lake.write(lake.read("artefacts", file.name).assign(content=b"{}"), "artefacts", file.name)
    with pytest.raises(ValueError, match=f"{artefact.id}.parquet: its content is that of [0-9a-f]{{24}}; restore"):
        kept_artefact(lake, "run", policy)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"artefacts/{artefact.id}.parquet: is gone from the lake; restore it"):
        kept_artefact(lake, "run", policy)


def test_the_id_of_an_artefact_is_a_hash_of_its_scorer_and_content() -> None:
    assert Artefact("points", b"{}").id == "7f954530ec44e167f3d9995e"
    assert Artefact("learned", b"{}").id != Artefact("points", b"{}").id


def test_a_scorer_that_is_not_registered_is_named_with_those_that_are() -> None:
    policy = read_policy().changed(scoring__scorer="oracle")
    for asked in (scorer_of, check_scorer):
        with pytest.raises(PolicyError, match="^policy.*: scoring.scorer: 'oracle' is not allowed; allowed: points"):
            asked(policy)


def test_a_file_that_names_another_scorer_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("scoring: {scorer: oracle}")
    with pytest.raises(PolicyError, match=f"{file}: scoring.scorer: 'oracle' is not allowed; allowed: points"):
        usable_policy(file)


def test_a_policy_that_names_no_scorer_counts_points() -> None:
    document = read_policy().document()
    del document["scoring"]["scorer"]
    assert scorer_of(Policy.model_validate(document)) is scorer_named("points")


def test_an_artefact_of_points_that_names_a_signal_as_it_was_called_then_is_read() -> None:
    policy, scorer = read_policy(), scorer_named("points")
    artefact = scorer.artefact(policy, None)
    former = artefact.content.replace(b'"invites"', b'"invites_28d"')
    assert former != artefact.content
    assert scorer.columns(Artefact("points", former)) == scorer.columns(artefact)
