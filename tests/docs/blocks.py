"""The fenced blocks of a Markdown document."""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\s*$")
# Why a block is not run, on the line above it.
NOT_RUN = re.compile(r"^\s*<!-- not run: (?P<reason>.+?) -->\s*$")


@dataclass
class Block:
    """One block, with where it stands."""

    document: Path
    line: int
    language: str
    text: str
    # Why it is not run; `None`: it is.
    reason: str | None

    def name(self, root: Path) -> str:
        return f"{self.document.relative_to(root)}:{self.line}"


def blocks_of(document: Path) -> list[Block]:
    """All of them, in order; one that is not closed is an error."""
    found, lines = [], document.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = FENCE.match(lines[number])
        if not opening:
            number += 1
            continue
        indent, first = len(opening["indent"]), number + 1
        closing = next((at for at in range(first, len(lines)) if lines[at].strip() == "```"), None)
        if closing is None:
            raise SystemExit(f"{document}:{number + 1}: the block is not closed")
        text = "\n".join(line[indent:] for line in lines[first:closing]) + "\n"
        above = NOT_RUN.match(lines[number - 1]) if number else None
        found.append(Block(document, number + 1, opening["language"], text, above["reason"] if above else None))
        number = closing + 1
    return found
