"""The report page of a comparison: one HTML file that needs no network."""

from agents.report.page import render_report

__all__ = ["render_report"]
