"""What was measured, kept as JSON beside the page that is made of it, so that one part can be measured anew alone."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.chart import Chart
from tests.bench.figures import PLOTS, Section

HERE = Path(__file__).parent
PAGE = "RESULTS.md"
RESULTS = "results"
HEAD = """\
# Figures

Written by `make bench`; how to run it, and on which machine it may be, is in [README.md](README.md).
Ratios are taken in turn within one run, so that they hold where absolute times do not. Each part says when it ran.
"""


@dataclass(frozen=True)
class Found:
    """The sections of one part, and what they were measured on."""

    sections: tuple[Section, ...]
    date: str
    machine: str
    load: float

    @classmethod
    def now(cls, sections: Sequence[Section], load: float) -> Found:
        """Measured just now, on this machine. ``load`` is that of before."""
        return cls(tuple(sections), f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", machine(), load)

    @classmethod
    def of(cls, text: str) -> Found:
        """From JSON."""
        plain = json.loads(text)
        return cls(tuple(Section.of(section) for section in plain.pop("sections")), **plain)


def machine() -> str:
    """This machine in a few words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    kernel = platform.release().split("-")[0]
    return f"{os.cpu_count()} x {model}, {memory:.0f} GiB, {system}, Linux {kernel}, Python {platform.python_version()}"


def keep(part: str, found: Found, folder: Path = HERE) -> None:
    """Keep what a part has found."""
    results = folder / RESULTS
    results.mkdir(exist_ok=True)
    (results / f"{part}.json").write_text(json.dumps(asdict(found), indent=1) + "\n")


def write_page(parts: Sequence[str], folder: Path = HERE) -> str:
    """Write the page of all that is kept, in this order, with its charts beside it, and return it."""
    results = folder / RESULTS
    kept = {part: Found.of(path.read_text()) for part in parts if (path := results / f"{part}.json").is_file()}
    text = "\n".join((HEAD, *(_part(name, found) for name, found in kept.items())))
    (folder / PAGE).write_text(text)
    charts = [chart for found in kept.values() for section in found.sections for chart in section.charts]
    _draw(charts, folder / PLOTS)
    return text


def as_text(name: str, found: Found) -> str:
    """A part that is not kept, for somebody who measured it on a host of their own."""
    bare = [replace(section, charts=()) for section in found.sections]
    where = f"*{name}, {found.date}, load before {found.load:.1f}: {found.machine}.*\n"
    return "\n".join(section.markdown(where) for section in bare)


def _draw(charts: Sequence[Chart], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for chart in charts:
        (folder / f"{chart.slug}.svg").write_text(chart.svg())


def _part(name: str, found: Found) -> str:
    where = f'*`make bench PARTS="{name}"`, {found.date}, load before {found.load:.1f}: {found.machine}.*\n'
    return "\n".join(section.markdown(where) for section in found.sections)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []
