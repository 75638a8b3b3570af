"""The pages for readers, taken apart: blocks of code, headings, links, cells of tables, code within text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
RUNBOOK = ROOT / "deploy" / "RUNBOOK.md"
GENERATED = {"contract.md", "campaigns.md"}  # their form is that of what they are made of

_FENCE = re.compile(r"^```(\w*)$")
_HEADING = re.compile(r"^#{1,6} +(.*)$")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Page:
    """One page."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def written_by_hand(self) -> bool:
        return self.path.name not in GENERATED

    def blocks(self) -> Iterator[Block]:
        """Yield each fenced block with its language; a fence that never closes fails."""
        opened: tuple[int, str] | None = None
        kept: list[str] = []
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1):
            fence = _FENCE.match(line.strip())
            if opened and fence:
                yield Block(self.name, *opened, "".join(f"{each}\n" for each in kept))
                opened, kept = None, []
            elif opened:
                kept.append(line)
            elif fence:
                opened = number, fence[1]
        assert opened is None, f"{self.name}:{opened}: a block that never ends"

    def prose(self) -> Iterator[tuple[int, str]]:
        """Yield each numbered line outside of blocks."""
        within = False
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1):
            if _FENCE.match(line.strip()):
                within = not within
            elif not within:
                yield number, line

    def links(self) -> Iterator[tuple[int, str]]:
        """Yield where each link and picture goes; its words may go on in the next line."""
        text = _CODE.sub(lambda code: "x" * len(code[0]), self._text())
        yield from ((self._line(text, found), found[1]) for found in _LINK.finditer(text))

    def code(self) -> Iterator[tuple[int, str]]:
        """Yield each piece of code within the text; one may go on in the next line."""
        text = self._text()
        for found in re.finditer(r"`([^`]+)`", text):
            yield self._line(text, found), " ".join(found[1].split())

    def _text(self) -> str:
        return "\n".join(line for _, line in self.prose())

    def _line(self, text: str, found: re.Match[str]) -> int:
        """Return the number of the line, in the file, where something was found outside of blocks."""
        return [number for number, _ in self.prose()][text.count("\n", 0, found.start())]

    def cells(self) -> Iterator[tuple[int, str]]:
        """Yield each cell of each table."""
        for number, line in self.prose():
            if line.startswith("|"):
                yield from ((number, cell.strip()) for cell in line.strip().strip("|").split("|"))

    def anchors(self) -> frozenset[str]:
        """Return what a link may name behind `#`, as GitHub makes it of headings."""
        return _anchors(self.path)


@cache
def _anchors(path: Path) -> frozenset[str]:
    seen: dict[str, int] = {}
    anchors = set()
    for _, line in Page(path).prose():
        if heading := _HEADING.match(line):
            words = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])).lower()
            slug = words.strip().replace(" ", "-")
            times = seen.get(slug, 0)
            seen[slug] = times + 1
            anchors.add(f"{slug}-{times}" if times else slug)
    return frozenset(anchors)


PAGES = [Page(path) for path in (README, RUNBOOK, *sorted((ROOT / "docs").glob("*.md")))]
BLOCKS = [block for page in PAGES for block in page.blocks()]


def blocks(*languages: str) -> list[Block]:
    """Return the blocks in one of these languages."""
    return [block for block in BLOCKS if block.language in languages]
