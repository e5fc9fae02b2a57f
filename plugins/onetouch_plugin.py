"""Entry file of the Airflow plugin. What the DAGs share is in `onetouch_airflow/` beside it, which needs no plugin."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.plugins_manager import AirflowPlugin
from onetouch.console import Presses

if TYPE_CHECKING:
    from onetouch.workspace import Workspace


def _workspace() -> Workspace:
    from onetouch_airflow.opening import workspace

    return workspace()


class OnetouchPlugin(AirflowPlugin):
    """Adds the address to which Slack sends the presses of buttons to the API server: `/onetouch/slack/presses`."""

    name = "onetouch"
    fastapi_apps: ClassVar[list[dict[str, Any]]] = [
        {"name": "onetouch", "app": Presses(_workspace, lambda: datetime.now(UTC)), "url_prefix": "/onetouch"}
    ]
