"""What came of runs, for people: report.html of one run, comparison.html of several."""

import logging

# Without a folder for its font cache Matplotlib works as well, and is not to say so in the midst of a run.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
