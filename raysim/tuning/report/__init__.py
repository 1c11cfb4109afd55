"""The report of a study: one HTML file with everything in it, and its pictures as PNG."""

from raysim.tuning.report.writing import study_content, write_study_report

__all__ = ["study_content", "write_study_report"]
