"""The guide's snippets, run: each number that it states comes out of one."""

import doctest
import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"


@pytest.mark.slow
def test_every_snippet_of_the_guide_prints_what_stands_there():
    # The guide's fences would be taken for output.
    text = re.sub(r"^```.*$", "", GUIDE.read_text(), flags=re.MULTILINE)
    snippets = doctest.DocTestParser().get_doctest(text, {}, "guide", str(GUIDE), 0)
    assert len(snippets.examples) > 60
    told = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.REPORT_NDIFF)
    failed, _ = runner.run(snippets, out=told.append)
    assert not failed, "".join(told)


def test_every_link_and_picture_of_the_guide_is_there():
    targets = re.findall(r"\]\(([^)#]+)\)", GUIDE.read_text())
    assert "losses.md" in targets
    for target in set(targets):  # which comes with the tasks' own branch
        assert (GUIDE.parent / target).exists(), target
