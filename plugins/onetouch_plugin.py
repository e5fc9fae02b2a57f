"""Entry file of the Airflow plugin: it only registers. `onetouch_airflow/` beside it holds what the DAGs share."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class OnetouchPlugin(AirflowPlugin):
    """Makes Onetouch known to Airflow (`airflow plugins`); its pages will be registered here."""

    name = "onetouch"
