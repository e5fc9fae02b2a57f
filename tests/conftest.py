"""Airflow's environment, set before anything imports it: nothing of the machine's own installation is touched."""

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples wherever the suite runs: a landing must not depend on luck. Other ones: --hypothesis-profile=more
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("more", max_examples=2_000, deadline=None)
settings.load_profile("fixed")

REPOSITORY = Path(__file__).parents[1]
HOME = tempfile.mkdtemp(prefix="onetouch-airflow-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

for name in list(os.environ):
    if name.startswith(("AIRFLOW_", "ONETOUCH_")):
        del os.environ[name]

os.environ.update(
    AIRFLOW_HOME=HOME,
    AIRFLOW__CORE__DAGS_FOLDER=str(REPOSITORY / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(REPOSITORY / "plugins"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__FERNET_KEY="",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{HOME}/airflow.db",
    AIRFLOW__LOGGING__LOGGING_LEVEL="WARNING",
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
    GX_ANALYTICS_ENABLED="False",
    MPLBACKEND="Agg",
    ONETOUCH_HOME=f"{HOME}/onetouch",
)

LONGEST = (
    "compose/test_native.py",
    "pipeline/test_real_data.py",
    "dags/test_runs.py",
    "pipeline/test_killed.py",
    "routing/test_memory.py",
    "signals/test_account.py",
    "signals/test_joining.py",
    "upgrade/test_homes.py",
    "events/test_staging.py",
    "faults/test_faults.py",
)
"""Files of half a minute and more: they come first, so that the workers, which take file after file, end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the tests of the longest files to the front; the order is otherwise as it was."""
    places = {REPOSITORY / "tests" / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leaves what was imported out of garbage collection, and collects less often: it took a fifth of the CPU time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
