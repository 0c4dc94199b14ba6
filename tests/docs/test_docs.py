import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_catalogue_is_what_losses_says():
    page = runpy.run_path(str(DOCS / "catalogue.py"))["catalogue"]()
    assert (DOCS / "losses.md").read_text() == page, "run `python docs/catalogue.py`"
