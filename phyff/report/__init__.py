"""The report of a run: one self-contained HTML page, and one figure for a README."""

from phyff.report.page import render, write_report
from phyff.report.plots import figure

__all__ = ["figure", "render", "write_report"]
