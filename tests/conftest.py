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


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leaves what was imported out of garbage collection, and collects less often: it took a fifth of the CPU time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
