"""Line charts as SVG, drawn by hand: nothing has to be installed to see, or to make, them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_SVG = "http://www.w3.org/2000/svg"
Point = tuple[float, float]
_WIDTH, _HEIGHT = 720, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 40, 48
_COLOURS = ("#0b62a4", "#c0392b", "#3a7d34", "#8e5ea2", "#b8860b")
_TICKS = 6
_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Line:
    """One line of a chart. ``steps``: each value holds until the next one, as with counts over time."""

    name: str
    points: tuple[Point, ...]
    steps: bool = False

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Line:
        """From what JSON makes of one."""
        return cls(plain["name"], tuple((x, y) for x, y in plain["points"]), plain["steps"])


@dataclass(frozen=True)
class Chart:
    """A chart with its axes named. ``slug`` names its file. Both axes begin at 0; no value may be negative."""

    slug: str
    title: str
    x: str
    y: str
    lines: tuple[Line, ...]

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Chart:
        """From what JSON makes of one."""
        return cls(**{**plain, "lines": tuple(map(Line.of, plain["lines"]))})

    def svg(self) -> str:
        """The picture."""
        points = [point for line in self.lines for point in line.points]
        xs, ys = ticks(max((x for x, _ in points), default=1.0)), ticks(max((y for _, y in points), default=1.0))
        parts = [
            f'<svg xmlns="{_SVG}" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" fill="#333">',
            f"<title>{escape(self.title)}</title>",
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
            _text(_WIDTH / 2, 20, self.title, size=14),
            *_axes(xs, ys),
            _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, self.x),
            f'<g transform="rotate(-90 14 {_HEIGHT / 2:.0f})">{_text(14, _HEIGHT / 2, self.y)}</g>',
        ]
        for number, line in enumerate(self.lines):
            colour = _COLOURS[number % len(_COLOURS)]
            places = [_place(point, xs[-1], ys[-1]) for point in (_stepped(line.points) if line.steps else line.points)]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            if not line.steps:
                parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
            parts += _legend(number, line.name, colour)
        return "\n".join((*parts, "</svg>", ""))


def counted(name: str, moments: Sequence[float]) -> Line:
    """How many things had happened, over time, of the moments at which each did."""
    return Line(name, ((0.0, 0.0), *((moment, float(n + 1)) for n, moment in enumerate(sorted(moments)))), steps=True)


def ticks(most: float) -> list[float]:
    """Round numbers from 0 to the first that is no less than ``most``: between three and seven of them."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / (_TICKS - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * unit for nice in _NICE if nice * unit >= rough * (1 - 1e-9))
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def _stepped(points: Sequence[Point]) -> list[Point]:
    found = list(points[:1])
    for x, y in points[1:]:
        found += [(x, found[-1][1]), (x, y)]
    return found


def _place(point: Point, most_x: float, most_y: float) -> Point:
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    return _LEFT + wide * point[0] / most_x, _HEIGHT - _BOTTOM - high * point[1] / most_y


def _axes(xs: Sequence[float], ys: Sequence[float]) -> list[str]:
    parts = []
    for value in ys:
        _, y = _place((0, value), xs[-1], ys[-1])
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, _number(value), anchor="end"))
    for value in xs:
        x, _ = _place((value, 0), xs[-1], ys[-1])
        parts.append(_text(x, _HEIGHT - _BOTTOM + 18, _number(value)))
    return parts


def _legend(number: int, name: str, colour: str) -> list[str]:
    y = _TOP + 14 + 18 * number
    x = _LEFT + 14
    return [
        f'<line x1="{x}" y1="{y}" x2="{x + 22}" y2="{y}" stroke="{colour}" stroke-width="3"/>',
        _text(x + 28, y + 4, name, anchor="start"),
    ]


def _text(x: float, y: float, text: str, *, anchor: str = "middle", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:,.10g}"
