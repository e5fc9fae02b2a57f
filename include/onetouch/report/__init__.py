"""The weekly report: pictures that say one thing each (`charts`), and the message around them (`message`)."""

from onetouch.report.report import Chart, Report, build, keep_charts, post_report

__all__ = ["Chart", "Report", "build", "keep_charts", "post_report"]
