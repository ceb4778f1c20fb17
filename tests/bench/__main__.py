"""``make bench``: measure, print, and write tests/bench/README.md with the command that made each figure."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import noop, simulated
from tests.bench.figures import Section

PAGE = Path(__file__).with_name("README.md")
COMMAND = "make bench"


def main() -> int:
    """Run every benchmark that can run here; say which could not."""
    sections = [simulated.measure()]
    if os.geteuid() == 0 and sys.platform == "linux":
        sections.append(noop.measure())
    else:
        print("the real-Incus figures need root on Linux: left out", file=sys.stderr)
        sections.append(Section("No-op plan on real Incus", "not measured in this run: it needs root on Linux"))
    text = page(sections)
    PAGE.write_text(text)
    print(text)
    return 0


def page(sections: list[Section]) -> str:
    """The page as Markdown."""
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, Linux {platform.release().split('-')[0]}"
    head = (
        "# Figures\n\n"
        f"Written by `{COMMAND}` on {datetime.now(UTC):%Y-%m-%d} ({machine}).\n"
        "Ratios are medians of pairs taken in turn within one run, so that they hold where absolute times do not.\n"
    )
    return "\n".join((head, *(section.markdown() for section in sections)))


if __name__ == "__main__":
    raise SystemExit(main())
