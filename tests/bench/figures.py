"""Samples, their medians and spread, and the tables that show them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.bench.chart import Chart

PLOTS = "plots"
"""Folder of the charts, beside the page."""


@dataclass(frozen=True)
class Section:
    """One heading of the page, with a sentence and a table."""

    title: str
    text: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = field(default=())
    charts: tuple[Chart, ...] = ()

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Section:
        """From what JSON makes of one."""
        rows = tuple(tuple(row) for row in plain["rows"])
        charts = tuple(map(Chart.of, plain.get("charts", ())))
        return cls(plain["title"], plain["text"], tuple(plain["columns"]), rows, tuple(plain["notes"]), charts)

    def markdown(self, where: str) -> str:
        """The section as Markdown. ``where`` says how it was measured."""
        lines = [f"## {self.title}", "", self.text, "", where]
        if self.columns:
            lines.append("| " + " | ".join(self.columns) + " |")
            lines.append("|" + " --- |" * len(self.columns))
            lines += ["| " + " | ".join(row) + " |" for row in self.rows]
            lines.append("")
        lines += [f"![{chart.title}]({PLOTS}/{chart.slug}.svg)\n" for chart in self.charts]
        lines += [f"- {note}" for note in self.notes]
        return "\n".join(lines) + "\n"


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(samples: Sequence[float]) -> str:
    """Median with minimum and maximum, in milliseconds."""
    low, middle, high = (1000 * value for value in (min(samples), median(samples), max(samples)))
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def percentile(samples: Sequence[float], percent: int) -> float:
    """The sample that so many percent of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def quantiles(samples: Sequence[float]) -> tuple[str, str, str]:
    """Median, 99th percentile and maximum, in milliseconds."""
    middle, late, most = (1000 * value for value in (median(samples), percentile(samples, 99), max(samples)))
    return f"{middle:.0f}", f"{late:.0f}", f"{most:.0f}"


def moments(samples: Sequence[float]) -> str:
    """Median with minimum and maximum, in seconds."""
    return f"{median(samples):.2f} ({min(samples):.2f} to {max(samples):.2f})"


def over(samples: Sequence[float], others: Sequence[float]) -> float:
    """The median ratio of samples that were taken in turn with others."""
    return median(one / other for one, other in zip(samples, others, strict=True))


def against(what: str, found: float, aim: float, unit: str = " x") -> str:
    """Whether an aim of "at most" is met, and by how much it is missed, as a sentence."""
    word = "met" if found <= aim else f"missed by {100 * (found / aim - 1):.0f} %"
    return f"{what}, the aim of at most {aim:g}{unit} is {word}: {found:.2f}{unit}."
