"""Entry file of the Airflow plugin. What the DAGs share is in `onetouch_airflow/` beside it, which needs no plugin."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class OnetouchPlugin(AirflowPlugin):
    """Adds nothing to Airflow but its name, which `airflow plugins` lists when the folder is in place."""

    name = "onetouch"
