"""What came of runs, for people: report.html of one run, comparison.html of several."""

from jaxce.report.page import write_report
from jaxce.report.predictions import save_predictions

__all__ = ["save_predictions", "write_report"]
