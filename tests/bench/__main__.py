"""``make bench``: measure, print, and write tests/bench/README.md with the command that made each figure."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import living, noop, recovery, simulated
from tests.bench.figures import Section
from tests.lab.command import LabError

PAGE = Path(__file__).with_name("README.md")
COMMAND = "make bench"


def main() -> int:
    """Run every benchmark that can run here; say which could not. One that fails takes no other with it: code 1."""
    sections = [simulated.measure()]
    code = 0
    if os.geteuid() == 0 and sys.platform == "linux":
        for real in (noop.measure, living.measure, recovery.measure):
            name = real.__module__.rpartition(".")[2]
            try:
                found = real()
            except LabError as error:
                code = 1
                print(f"failed: {name}: {error}", file=sys.stderr)
                found = Section(f"Failed: {name}", "This part of the bench did not come to an end in this run.")
            sections.extend(found if isinstance(found, tuple) else (found,))
            print(f"measured: {name}", file=sys.stderr)
    else:
        print("the real-Incus figures need root on Linux: left out", file=sys.stderr)
        sections.append(Section("Real Incus", "not measured in this run: it needs root on Linux"))
    text = page(sections)
    PAGE.write_text(text)
    print(text)
    return code


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
