"""Read by every Airflow process at its start, when this folder is on PYTHONPATH or is $AIRFLOW_HOME/config.

Tasks are forked from the scheduler (LocalExecutor) or the Celery worker. What those have imported is the tasks'
already; otherwise each task would spend its first seconds importing pandas, Great Expectations and the rest.
Other processes run no stage and import nothing here.
"""

import importlib
import sys

__all__: list[str] = []  # nothing of this file is a setting

if sys.argv[1:2] in (["scheduler"], ["celery"]):
    # Of registries what most have; the checks import Great Expectations when they run.
    for _module in (
        "onetouch.stages",
        "onetouch.crm.salesforce",
        "onetouch.chat.slack",
        "onetouch.lake.engines.duckdb",
        "onetouch.sources.amplitude",
        "great_expectations",
    ):
        importlib.import_module(_module)
    importlib.import_module("onetouch.faces").load_all()  # what stages would import one by one as they need it
