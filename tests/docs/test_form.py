"""The form of the pages: short, linked, and with nothing that leads nowhere."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import PAGES, README, ROOT, RUNBOOK, Page

README_LINES_MAX = 150
LINE_CHARS_MAX = 125
PICTURE_BYTES_MAX = 60_000
BY_HAND = [page for page in PAGES if page.written_by_hand and page.path != RUNBOOK]
EVERY = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
WRITTEN = pytest.mark.parametrize("page", BY_HAND, ids=lambda page: page.name)
_ENDS_AND_GOES_ON = re.compile(r"[.!?…] +[A-Z]")


def test_the_readme_is_short() -> None:
    """Whoever reads it reads all of it."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= README_LINES_MAX


def test_every_page_is_reached_from_the_readme() -> None:
    """By links, over other pages or at once: none is found by chance alone."""
    by_path = {page.path: page for page in PAGES}
    reached, new = set(), {README}
    while new:
        reached |= new
        targets = {
            (path.parent / link.partition("#")[0]).resolve()
            for path in new
            for _, link in by_path[path].links()
            if not link.startswith("https://")
        }
        new = targets & by_path.keys() - reached
    assert by_path.keys() - reached == set()


@EVERY
def test_links_lead_somewhere(page: Page) -> None:
    """To a file of the project, to a heading that is there, or by https to elsewhere."""
    astray = []
    for line, link in page.links():
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (anchor and (target.suffix != ".md" or anchor not in Page(target).anchors())):
            astray.append(f"{page.name}:{line}: {link}")
    assert astray == []


@WRITTEN
def test_a_cell_is_a_sentence_at_most(page: Page) -> None:
    """What takes more is a paragraph, not a cell."""
    long = [f"{page.name}:{line}: {cell}" for line, cell in page.cells() if _ENDS_AND_GOES_ON.search(cell)]
    assert long == []


@WRITTEN
def test_lines_are_wrapped(page: Page) -> None:
    """But for tables and pictures, which cannot be."""
    long = [
        f"{page.name}:{number}"
        for number, line in page.prose()
        if len(line) > LINE_CHARS_MAX and not line.startswith(("|", "!"))
    ]
    assert long == []


def test_pictures_are_small_and_shown() -> None:
    """By some page, with words for those who cannot see it."""
    shown = {
        (page.path.parent / name).resolve()
        for page in PAGES
        for name in re.findall(r"!\[[^\]]{20,}\]\(([^)]*)\)", page.path.read_text(encoding="utf-8"))
    }
    pictures = set((ROOT / "docs" / "pictures").iterdir())
    assert pictures <= shown
    assert max(picture.stat().st_size for picture in pictures) < PICTURE_BYTES_MAX
