"""Reports: one self-contained HTML file each."""

from dlkd.report.page import Page, Picture
from dlkd.report.run_page import run_page

__all__ = ["Page", "Picture", "run_page"]
