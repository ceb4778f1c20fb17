"""Too much going away at once is a mistake until an admin has confirmed exactly that set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from containarium.model.manifest import Load
from containarium.plan.decision import Interlock, Suspicion, Verb
from containarium.plan.fleet import NAMES, Decision, Hold
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


def heed(
    decisions: dict[str, Decision], approved: frozenset[str | Approval]
) -> tuple[dict[str, Decision], tuple[Interlock, ...]]:
    """The decisions with what an admin has approved let go, and what holds the others back."""
    groups: dict[Hold, list[str]] = {}
    for name, decision in decisions.items():
        if decision.hold is not None:
            groups.setdefault(decision.hold, []).append(name)
    interlocks: list[Interlock] = []
    for hold, names in groups.items():
        held = [name for name in names if hold.verb is None or not _approved(hold.verb, names, name, approved)]
        for name in set(names).difference(held):
            decisions[name] = replace(decisions[name], step=decisions[name].then, hold=None)
        if held:
            interlocks.append(_interlock(hold, tuple(sorted(held))))
    return decisions, tuple(interlocks)


def _approved(verb: Verb, names: Sequence[str], name: str, approved: frozenset[str | Approval]) -> bool:
    return digest(verb, names) in approved or any(
        isinstance(known, Approval) and known.verb == verb and name in known.environments for known in approved
    )


def _interlock(hold: Hold, names: tuple[str, ...]) -> Interlock:
    wanted = digest(hold.verb, names) if hold.verb is not None else ""
    what = "make it anew without its data" if hold.verb is Verb.CREATE else "go on with what there is"
    remedy = f"{hold.remedy}, or {what}: containarium approve {wanted}" if wanted else hold.remedy
    return Interlock(hold.reason, hold.message.replace(NAMES, ", ".join(names)), remedy, names, wanted)


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
