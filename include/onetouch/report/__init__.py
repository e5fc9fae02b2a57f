"""The weekly report: charts with one message each (`charts`), and the text around them (`message`)."""

from typing import TYPE_CHECKING

from onetouch.faces import show

if TYPE_CHECKING:
    from onetouch.report.report import (
        Chart,
        Report,
        build,
        keep_charts,
        post_report,
    )

__all__ = [
    "Chart",
    "Report",
    "build",
    "keep_charts",
    "post_report",
]
show(__name__)
