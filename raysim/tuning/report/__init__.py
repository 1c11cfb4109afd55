"""The report of a study: one HTML file with everything in it, and its pictures as PNG."""

from raysim.tuning.report.writing import write_study_report

__all__ = ["write_study_report"]
