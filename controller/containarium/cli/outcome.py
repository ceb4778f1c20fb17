"""How an apply ended: the lines and the JSON that say so, and its exit code. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from containarium.cli.errors import FAILED, OK, UNSAFE
from containarium.cli.output import count
from containarium.model.problem import Problem
from containarium.plan.decision import EnvironmentPlan, Interlock, Plan, Suspicion, Verb
from containarium.plan.render import as_json
from containarium.reconcile.cycle import Result
from containarium.reconcile.execute import Failure

_DONE = {
    Verb.CREATE: "created",
    Verb.MOVE: "moved",
    Verb.ADOPT: "adopted",
    Verb.UPDATE: "updated",
    Verb.REPAIR: "repaired",
    Verb.RETIRE: "retired",
    Verb.PRUNE: "deleted",
}


def narrowed(plan: Plan, only: frozenset[str]) -> Plan:
    """The part of a plan that is about the environments in ``only`` (all, where it is empty)."""
    if not only:
        return plan
    return replace(
        plan,
        environments=tuple(e for e in plan.environments if e.name in only),
        unchanged=tuple(name for name in plan.unchanged if name in only),
        suspended=tuple(name for name in plan.suspended if name in only),
        elsewhere=tuple(name for name in plan.elsewhere if name in only),
        retired=tuple(name for name in plan.retired if name in only),
        expired=tuple(name for name in plan.expired if name in only),
        problems=tuple(p for p in plan.problems if p.environment in only),
        interlocks=tuple(i for i in plan.interlocks if not only.isdisjoint(i.environments)),
        places={name: place for name, place in plan.places.items() if name in only},
    )


def unknown(plan: Plan, only: frozenset[str]) -> list[str]:
    """The names in ``only`` that the plan says nothing about."""
    known = {environment.name for environment in plan.environments}
    known.update(plan.unchanged, plan.suspended, plan.elsewhere, plan.retired, plan.expired)
    known.update(problem.environment for problem in plan.problems)
    known.update(name for interlock in plan.interlocks for name in interlock.environments)
    return sorted(only - known)


def plan_code(plan: Plan, *, detailed: bool) -> int:
    """The exit code of ``plan``."""
    if plan.unsafe:
        return UNSAFE
    if plan.problems or plan.interlocks:
        return FAILED
    return 2 if detailed and plan.pending else OK


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result as a person is told it, narrowed to the environments that were asked for."""

    first: Plan
    last: Plan
    done: tuple[EnvironmentPlan, ...]
    """The first thing that was carried out to its end for each environment, sorted by name."""
    drift: dict[str, tuple[str, ...]]
    """The fields that somebody had changed and that were put right, by environment."""
    failures: tuple[Failure, ...]
    stuck: tuple[EnvironmentPlan, ...]
    """What the last look still found to do though nothing had failed."""

    @classmethod
    def of(cls, result: Result, only: frozenset[str]) -> Outcome:
        """Read a result."""
        first, last = narrowed(result.first, only), narrowed(result.last, only)
        done: dict[str, EnvironmentPlan] = {}
        drift: dict[str, set[str]] = {}
        failed = {failure.environment for failure in result.failures}
        stuck = tuple(e for e in last.environments if e.due and e.name not in failed)
        unfinished = failed | {environment.name for environment in stuck}
        for plan in result.done:
            if plan.name not in unfinished:
                done.setdefault(plan.name, plan)
                drift.setdefault(plan.name, set()).update(change.field for change in plan.changes if change.drift)
        return cls(
            first=first,
            last=last,
            done=tuple(done[name] for name in sorted(done)),
            drift={name: tuple(sorted(drift[name])) for name in sorted(drift) if drift[name]},
            failures=result.failures,
            stuck=stuck,
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self.last.problems

    @property
    def interlocks(self) -> tuple[Interlock, ...]:
        return self.last.interlocks

    @property
    def code(self) -> int:
        """The exit code of ``apply``."""
        if any(interlock.reason is Suspicion.BUDGET for interlock in self.interlocks):
            return UNSAFE
        return FAILED if self.failures or self.stuck or self.problems or self.interlocks else OK

    @property
    def summary(self) -> str:
        """One sentence."""
        counts = Counter(plan.verb for plan in self.done)
        parts = [f"{counts[verb]} {word}" for verb, word in _DONE.items() if counts[verb]]
        bad = ((self.failures, "failed"), (self.stuck, "still different"), (self.problems, "refused"))
        parts += [f"{len(what)} {word}" for what, word in bad if what]
        held = {name for interlock in self.interlocks for name in interlock.environments}
        if held:
            parts.append(f"{len(held)} held back")
        touched = {e.name for e in (*self.done, *self.stuck)} | {f.environment for f in self.failures}
        waiting = [e.name for e in self.last.environments if not e.due]
        same = len(set(self.last.unchanged) - touched)
        left = (
            (waiting, "waiting for an admin"),
            (self.last.suspended, "suspended"),
            (self.last.elsewhere, "elsewhere"),
            (self.last.expired, "expired"),
        )
        others = [f"{len(which)} {word}" for which, word in left if which]
        if not parts:
            if same or not others:
                others.insert(0, f"{count(same, 'environment')} {'is' if same == 1 else 'are'} as declared")
            return f"Nothing to do: {', '.join(others)}."
        if same:
            parts.append(f"{same} as declared")
        parts += others
        return f"{'Not all done' if self.code else 'Done'}: {', '.join(parts)}."

    def lines(self) -> Iterator[str]:
        """What was repaired, and what a person has to look at, one line each."""
        for name, repaired in self.drift.items():
            yield f"{name}: repaired drift: {', '.join(repaired)}"
        for failure in self.failures:
            yield f"{failure.environment}: {failure.action} failed: {failure.error}"
        for plan in self.stuck:
            fields = ", ".join(sorted({change.field for change in plan.changes or plan.notices})) or "not recorded"
            yield f"{plan.name}: still different after it was applied: {fields}; see containarium plan"
        for plan in self.last.environments:
            if not plan.due:
                fields = ", ".join(f"{change.field}: {change.after}" for change in plan.notices)
                yield f"{plan.name}: waits for an admin: {fields}"

    def warnings(self) -> Iterator[str]:
        """What was refused and what was held back."""
        yield from (f"Refused: {problem}" for problem in self.problems)
        yield from (f"Held back: {interlock}" for interlock in self.interlocks)

    def as_json(self) -> dict[str, Any]:
        """Plain data in a stable order."""
        return {
            "summary": self.summary,
            "converged": self.code == OK,
            "done": [
                {"name": plan.name, "verb": plan.verb.value, "repaired_drift": list(self.drift.get(plan.name, ()))}
                for plan in self.done
            ],
            "failures": [
                {
                    "environment": failure.environment,
                    "action": failure.action,
                    "reason": failure.error.reason,
                    "message": failure.error.message,
                    "remedy": failure.error.remedy,
                }
                for failure in self.failures
            ],
            "still_different": [plan.name for plan in self.stuck],
            "plan": as_json(self.first),
            "remaining": as_json(self.last),
        }
