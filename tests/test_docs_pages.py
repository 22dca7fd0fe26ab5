"""Links lead somewhere and tables are well formed, on every page of the documentation."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchor(heading: str) -> str:
    """As GitHub makes them."""
    words = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return words.strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text()), re.MULTILINE)
    return {anchor(heading) for heading in headings}


def links(page: Path) -> list[str]:
    return re.findall(r"\]\((?!https?:)([^)\s]+)\)", without_code(page.read_text()))


def test_there_are_pages_with_links():
    assert len(PAGES) > 10
    assert sum(len(links(page)) for page in PAGES) > 50


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, part = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no such file"
        assert target.is_relative_to(ROOT.resolve()), f"{link} leads out of the repository"
        assert not part or part in anchors(target), f"{link}: there is no such heading"


def test_anchors_are_those_of_the_host():
    assert anchor("What FairGrad's direction is made of") == "what-fairgrads-direction-is-made-of"
    assert anchor("Accuracy of `sgd`") == "accuracy-of-sgd"
    assert anchor("Tasks, and goals") == "tasks-and-goals"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_rows_of_a_table_have_the_cells_of_its_header(page):
    text = without_code(page.read_text())
    for table in re.findall(r"(?:^ *\|.*\|\n)+", text, re.MULTILINE):
        rows = [re.sub(r"\\\|", "", row).count("|") for row in table.splitlines()]
        assert len(rows) > 2, table
        assert set(rows) == {rows[0]}, table
        assert re.fullmatch(r" *\|( *:?-+:? *\|)+", table.splitlines()[1]), table


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_code_fences_are_closed(page):
    assert len(re.findall(r"^```", page.read_text(), re.MULTILINE)) % 2 == 0


def test_python_files_that_pages_name_exist():
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    named = {
        (page.name, path)
        for page in pages
        for path in re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text())
        if "NAME" not in path
    }
    assert len(named) > 30
    # What the reader of docs/supervised.md is to write.
    named -= {("supervised.md", "mtrl_fair/supervised/benchmarks/sum_and_product.py")}
    assert not [item for item in named if not (ROOT / item[1]).is_file()]
