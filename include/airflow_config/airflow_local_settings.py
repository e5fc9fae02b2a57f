"""Read by every Airflow process at its start, when this folder is on PYTHONPATH or is $AIRFLOW_HOME/config.

Tasks are forked from the scheduler (LocalExecutor) or the Celery worker: what those have imported is the tasks'
already, instead of seconds of importing in each. Other processes run no stage and import nothing here.
"""

import importlib
import sys

__all__: list[str] = []  # nothing of this file is a setting

if sys.argv[1:2] in (["scheduler"], ["celery"]):
    for _library in ("pandas", "pyarrow.parquet", "duckdb", "ibis", "great_expectations"):
        importlib.import_module(_library)
