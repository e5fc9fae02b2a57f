"""What `plugins/` registers in the Airflow API server: the address that takes the presses of buttons."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.console.presses import PATH, Presses

__all__ = ["PATH", "Presses"]
show(__name__)
