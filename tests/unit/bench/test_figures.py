"""Ratios and verdicts, and what the page keeps of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.chart import Chart, Line
from tests.bench.figures import Section, against, moments, over, percentile
from tests.bench.page import Found, as_text, keep, write_page


def found(title: str, *charts: Chart) -> Found:
    section = Section(title, "Said.", ("what", "N"), (("this", "3"),), ("A note.",), charts)
    return Found((section,), "2026-11-22 07:00 UTC", "a machine", 0.5)


def test_a_ratio_is_the_median_of_pairs_and_not_the_ratio_of_medians() -> None:
    assert over([2.0, 9.0, 30.0], [1.0, 3.0, 10.0]) == 3.0
    assert over([1.0, 10.0, 2.0], [1.0, 5.0, 4.0]) == 1.0


def test_samples_without_a_partner_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        over([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.3, "Ours, the aim of at most 1.3 x is met: 1.30 x."),
        (1.56, "Ours, the aim of at most 1.3 x is missed by 20 %: 1.56 x."),
    ],
)
def test_a_verdict_says_by_how_much(value: float, words: str) -> None:
    assert against("Ours", value, 1.3) == words


def test_seconds_are_shown_with_their_spread() -> None:
    assert moments([3.0, 1.0, 2.0]) == "2.00 (1.00 to 3.00)"


def test_a_percentile_is_one_of_the_samples() -> None:
    assert percentile([5.0, 1.0, 3.0], 99) == 5.0
    assert percentile([float(n) for n in range(1, 101)], 50) == 50.0


def test_the_page_keeps_what_other_parts_found(tmp_path: Path) -> None:
    chart = Chart("one", "Title", "x", "y", (Line("line", ((0.0, 0.0), (1.0, 2.0))),))
    keep("first", found("First", chart), tmp_path)
    keep("second", found("Second"), tmp_path)
    page = write_page(["second", "first", "never measured"], tmp_path)
    assert (tmp_path / "RESULTS.md").read_text() == page
    assert page.index("## Second") < page.index("## First")
    assert "| this | 3 |" in page
    assert "![Title](plots/one.svg)" in page
    assert (tmp_path / "plots" / "one.svg").read_text() == chart.svg()


def test_a_chart_that_nobody_draws_any_more_goes(tmp_path: Path) -> None:
    keep("first", found("First", Chart("old", "Title", "x", "y", ())), tmp_path)
    write_page(["first"], tmp_path)
    keep("first", found("First", Chart("new", "Title", "x", "y", ())), tmp_path)
    write_page(["first"], tmp_path)
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["new.svg"]


def test_results_from_before_there_were_charts_are_read(tmp_path: Path) -> None:
    text = (
        '{"sections": [{"title": "Old", "text": "T", "columns": [], "rows": [], "notes": ["n"]}],'
        ' "date": "d", "machine": "m", "load": 1.0}'
    )
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "old.json").write_text(text)
    assert "## Old" in write_page(["old"], tmp_path)


def test_what_is_not_kept_names_no_chart() -> None:
    shown = as_text("create", found("First", Chart("one", "Title", "x", "y", ())))
    assert "## First" in shown
    assert "plots/" not in shown
