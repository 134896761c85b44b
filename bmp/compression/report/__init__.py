"""The report: what a compression has found, for programs, for the terminal, as a picture and as a page."""

from bmp.compression.report.page import write_page
from bmp.compression.report.picture import plot_front
from bmp.compression.report.report import REPORT_FILE, Report, read_json, write_json
from bmp.compression.report.table import build_table, say_outcome

__all__ = [
    "REPORT_FILE",
    "Report",
    "build_table",
    "plot_front",
    "read_json",
    "say_outcome",
    "write_json",
    "write_page",
]
