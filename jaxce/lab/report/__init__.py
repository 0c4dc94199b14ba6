"""What came of runs, for people: report.html of one run, comparison.html of several."""
