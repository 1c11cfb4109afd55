"""The report of one run, or of several side by side: one HTML file with everything in it, and its pictures as PNG."""

from raysim.tracking.report.writing import write_report

__all__ = ["write_report"]
