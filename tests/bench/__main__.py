"""``make bench``: measure, keep what was measured, and write tests/bench/RESULTS.md of it.

``make bench PARTS="living recovery"`` measures these parts only; the page keeps what the others found before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from tests.bench import living, noop, recovery, simulated
from tests.bench.figures import Section
from tests.bench.page import Found, keep, write_page
from tests.bench.site import calm
from tests.lab.command import LabError

ANYWHERE = "simulated"
"""The part that needs neither root nor Incus."""
PARTS: dict[str, Callable[[], Section | tuple[Section, ...]]] = {
    ANYWHERE: simulated.measure,
    "noop": noop.measure,
    "living": living.measure,
    "recovery": recovery.measure,
}
"""Every part, in the order of the page."""


def main(asked: list[str]) -> int:
    """Measure what was asked for, or everything. One part that fails takes no other with it: code 1."""
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        print(f"no such part: {' '.join(unknown)}; there are: {' '.join(PARTS)}", file=sys.stderr)
        return 2
    able = os.geteuid() == 0 and sys.platform == "linux"
    code = 0
    for name in asked or PARTS:
        if name != ANYWHERE and not able:
            print(f"left out: {name} needs root on Linux", file=sys.stderr)
            code = code or int(bool(asked))
            continue
        load = calm()
        try:
            found = PARTS[name]()
        except LabError as error:
            code = 1
            print(f"failed: {name}: {error}", file=sys.stderr)
            continue
        keep(name, Found.now(found if isinstance(found, tuple) else (found,), load))
        print(f"measured: {name}", file=sys.stderr)
    print(write_page(list(PARTS)))
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
