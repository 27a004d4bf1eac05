"""Every relative link and picture in the Markdown files leads somewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"```.*?```", re.DOTALL)


def broken(page: Path) -> list[str]:
    """The page's links that lead nowhere."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = (found.split("#")[0] for found in LINK.findall(text) if "://" not in found)
    return [target for target in targets if target and not (page.parent / target).exists()]


def main() -> int:
    """Print what is broken; the exit status says whether anything is."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("tests/**/*.md")]
    wrong = [(page, target) for page in pages for target in broken(page)]
    for page, target in wrong:
        print(f"{page.relative_to(ROOT)}: no such file: {target}")
    print(f"{len(pages)} pages, {len(wrong)} broken links")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
