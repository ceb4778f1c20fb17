"""Too much going away at once is a mistake until an admin has confirmed exactly that set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta

from containarium.model.manifest import Load
from containarium.plan.decision import Interlock, Suspicion
from containarium.plan.terms import Approval, Doubt

BUDGET_SHARE = 0.2
"""The share of the environments that may go away in one pass without anybody's approval; one always may."""

BUDGET_WINDOW = timedelta(minutes=1)
"""What went away so shortly ago still counts: files that are deleted one by one are no smaller a loss."""


def digest(verb: str, names: Sequence[str]) -> str:
    """What an admin approves: this verb for exactly this set of environments."""
    return hashlib.sha256("\n".join((verb, *sorted(names))).encode()).hexdigest()[:12]


def over_budget(
    verb: str,
    names: Sequence[str],
    total: int,
    approved: frozenset[str | Approval],
    recent: Sequence[str] = (),
) -> Interlock | None:
    """The interlock for a set that is too large and not approved.

    ``total`` counts the environments of this host. ``approved`` holds digests and approvals; ``recent`` are those that
    went the same way within the window.
    """
    sets = [known.environments for known in approved if isinstance(known, Approval) and known.verb == verb]
    allowed = max(1, int(total * BUDGET_SHARE))
    gone = [name for name in recent if not any(name in known for known in sets)]
    if not names or len(names) + len(gone) <= allowed:
        return None
    wanted = digest(verb, names)
    if wanted in approved or any(known.issuperset(names) for known in sets):
        return None
    before = f", {len(gone)} went a moment ago ({', '.join(sorted(gone))})" if gone else ""
    return Interlock(
        Suspicion.BUDGET,
        f"{len(names)} of {total} environments would {verb} in one pass ({', '.join(sorted(names))}){before}, "
        f"{allowed} may without approval",
        f"bring their manifests back, or approve exactly this set: containarium approve {wanted}",
        tuple(sorted(names)),
        wanted,
    )


def unsure(load: Load, names: Sequence[str], doubts: Sequence[Doubt] = ()) -> Interlock | None:
    """Nothing goes away while it is not certain that it was left out on purpose."""
    if not names:
        return None
    for doubt in doubts:
        return Interlock(doubt.reason, f"{doubt.message}, so {', '.join(names)} stay", doubt.remedy, tuple(names))
    listed = ", ".join(names)
    if not load.complete:
        return Interlock(
            Suspicion.SOURCE_INCOMPLETE,
            f"the manifests were not read whole, so {listed} may still be wanted",
            "make the folder readable and complete",
            tuple(names),
        )
    if load.problems:
        return Interlock(
            Suspicion.MANIFEST_ERRORS,
            f"some manifests do not load, so {listed} may still be wanted",
            "mend the manifests that are named above",
            tuple(names),
        )
    return None
