"""The weekly report: pictures that say one thing each (`charts`), and the message around them (`blocks`)."""

from onetouch.report.report import Chart, Report, build, keep_charts

__all__ = ["Chart", "Report", "build", "keep_charts"]
