"""``make bench``: measure, keep what was measured, and write tests/bench/RESULTS.md of it.

``make bench PARTS="living recovery"`` measures these parts only; the page keeps what the others found before.
``make bench HERE=1`` measures the host that it is run on, prints what it found, and keeps nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack

from tests.bench import create, disk, fleet, living, noop, passes, recovery, simulated
from tests.bench.figures import Section
from tests.bench.page import Found, as_text, keep, write_page
from tests.bench.place import IMAGE, Place, own_host
from tests.bench.site import calm, load
from tests.lab.command import LabError

ANYWHERE = "simulated"
"""The part that needs neither root nor Incus."""
PARTS: dict[str, Callable[[], Section | tuple[Section, ...]]] = {
    "create": create.measure,
    "fleet": fleet.measure,
    "passes": passes.measure,
    "noop": noop.measure,
    "disk": disk.measure,
    ANYWHERE: simulated.measure,
    "living": living.measure,
    "recovery": recovery.measure,
}
"""Every part, in the order of the page."""
FEW = 5
"""Environments, and runs, on somebody's own host."""
HERE: dict[str, Callable[[Place, int], Section]] = {
    "create": create.section,
    "passes": passes.here,
    "disk": disk.section,
}
"""The parts for somebody's own host."""


def main(arguments: list[str]) -> int:
    """Measure what was asked for, or everything. One part that fails takes no other with it: code 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {' '.join(PARTS)}; all by default")
    parser.add_argument("--here", action="store_true", help=f"measure this host: {' '.join(HERE)}")
    parser.add_argument("--image", default=IMAGE, help="with --here: what environments are made from (%(default)s)")
    parser.add_argument("--count", type=int, default=FEW, help="with --here: environments, and runs (%(default)s)")
    asked = parser.parse_args(arguments)
    there = HERE if asked.here else PARTS
    unknown = [name for name in asked.parts if name not in there]
    if unknown:
        print(f"no such part: {' '.join(unknown)}; there are: {' '.join(there)}", file=sys.stderr)
        return 2
    if asked.here:
        return _here(asked.parts or list(HERE), asked.image, asked.count)
    return _in_the_lab(asked.parts)


def _in_the_lab(asked: list[str]) -> int:
    able = os.geteuid() == 0 and sys.platform == "linux"
    code = 0
    for name in asked or PARTS:
        if name != ANYWHERE and not able:
            print(f"left out: {name} needs root on Linux", file=sys.stderr)
            code = code or int(bool(asked))
            continue
        before = calm()
        try:
            found = PARTS[name]()
        except LabError as error:
            code = 1
            print(f"failed: {name}: {error}", file=sys.stderr)
            continue
        keep(name, Found.now(found if isinstance(found, tuple) else (found,), before))
        print(f"measured: {name}", file=sys.stderr)
    print(write_page(list(PARTS)))
    return code


def _here(parts: list[str], image: str, count: int) -> int:
    for name in parts:
        with ExitStack() as stack:
            try:
                place = stack.enter_context(own_host(image))
                before = load()
                found = HERE[name](place, count)
            except LabError as error:
                print(f"cannot measure here: {error}", file=sys.stderr)
                return 1
            print(as_text(name, Found.now((found,), before)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
