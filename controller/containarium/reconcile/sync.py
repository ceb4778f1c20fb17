"""From a git repository to the folder of manifests: fetch, verify, write, validate, and only then swap.

Nothing is remembered that the next sync could not find out by itself: what is applied is what the link leads to. It
can be killed anywhere; until the swap the last good commit stays in use.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from containarium.host.checkouts import Checkouts
from containarium.host.files import make_folder, write_atomically
from containarium.host.git import DamagedError, Mirror, Tip
from containarium.host.lock import only_controller
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, RetryableError, TerminalError
from containarium.model.manifest import Load
from containarium.model.syncing import SyncConfig
from containarium.reconcile.revision import read_state, revision, state_file
from containarium.sources.directory import load

__all__ = ["Outcome", "revision", "sync"]

WAIT: Final = 10.0
"""Seconds that a sync waits for another one."""
_TOLD = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a sync ended.

    ``result``: applied (swapped in), unchanged, valid (``check``: it would have been swapped in), or refused (the
    manifests are not valid, see ``problems``). ``history`` is forward, rewound, rewritten or unknown.
    """

    result: str
    repository: str
    ref: str
    commit: str
    applied: str
    before: str = ""
    history: str = "forward"
    environments: int = 0
    problems: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether the last good commit had to stay in use."""
        return self.result == "refused"

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {**asdict(self), "problems": list(self.problems)}


def sync(
    settings: HostSettings,
    config: SyncConfig,
    clock: Callable[[], datetime],
    *,
    check: bool = False,
    any_history: bool = False,
    wait: float = WAIT,
) -> Outcome:
    """Bring the manifests' folder to what the branch or tag is now. With ``check`` do all of it but the swap.

    Where commits have to be signed, only one that goes on from what is in use is taken over, except with
    ``any_history``.

    Raises HostError where that cannot be done; the folder is then what it was. Except with ``check``, how it ended
    stands in the state file before this returns.
    """
    with _alone(settings, wait):
        run = _Sync(settings, config)
        try:
            outcome = run.go(swap=not check, any_history=any_history)
        except (HostError, OSError) as error:
            told = error if isinstance(error, HostError) else _disk_fault(error, settings.sync)
            if not check:
                with suppress(OSError):  # a full disk: what went wrong before is what a person has to know
                    _record(settings, config, clock(), run.tip, str(told))
            raise told from error.__cause__
        if not check:
            _record(settings, config, clock(), run.tip, _summary(outcome))
        return outcome


class _Sync:
    """One sync in progress. ``tip`` is known as soon as it was fetched."""

    def __init__(self, settings: HostSettings, config: SyncConfig) -> None:
        self.tip: Tip | None = None
        self._link = settings.manifests
        self._config = config
        self._mirror = Mirror(settings.sync, config)
        self._checkouts = Checkouts(settings.sync / "checkouts")

    def go(self, *, swap: bool, any_history: bool) -> Outcome:
        """All of it, in order."""
        self._checkouts.check_link(self._link)
        self._mirror.open()
        self._checkouts.open()
        try:
            target = self._bring()
        except DamagedError:
            self._mirror.discard()
            target = self._bring()
        history = self._history(self._checkouts.commit_of(target), any_history=any_history)
        return self._use(target, history, swap=swap)

    def _bring(self) -> Path:
        """The tip, verified and on the disk: the folder of manifests in its checkout."""
        self.tip = tip = self._mirror.fetch()
        self._mirror.verify(tip)
        entries, path = self._mirror.listing(tip.commit), self._config.path
        found = self._checkouts.find(tip.commit, path, entries)
        if found is None:
            contents = self._mirror.contents(entries)
            found = self._checkouts.make(tip.commit, path, entries, contents)
        return found

    def _before(self) -> str:
        """The commit that is in use; empty where none is."""
        linked = self._checkouts.linked(self._link)
        return self._checkouts.commit_of(linked) if linked is not None else ""

    def _history(self, commit: str, *, any_history: bool) -> str:
        """How history went to this commit. Raises TerminalError (HistoryRefused) where signatures are wanted and it
        did not go forward: an old signature is a good one, and whoever may push could bring back withdrawn keys.
        """
        before = self._before()
        history = self._mirror.path_taken(before, commit) if before else "forward"
        if self._config.verify.wanted and history != "forward" and not any_history:
            raise TerminalError(
                f"commit {commit[:12]} of {self._config.ref} does not follow {before[:12]}, which is in use: "
                "somebody may have pushed an old signed one again",
                remedy="sign a new commit on top of that one, or take it over once: containarium sync --any-history",
                reason="HistoryRefused",
            )
        return history

    def _use(self, target: Path, history: str, *, swap: bool) -> Outcome:
        """Validate, swap, and clear up."""
        linked, before = self._checkouts.linked(self._link), self._before()
        commit = self._checkouts.commit_of(target)
        found = load(target)
        if _only_hosts(found) and (linked is None or not load(linked).manifests):
            found = replace(found, problems=(), complete=True)
        problems = tuple(self._shorter(str(problem), target) for problem in found.problems)
        outcome = Outcome(
            result="unchanged",
            repository=self._config.repository,
            ref=self._config.ref,
            commit=commit,
            applied=before,
            before=before,
            history=history,
            environments=len(found.manifests),
            problems=problems,
        )
        if problems or not found.complete:
            outcome = replace(outcome, result="refused")
        elif linked != target and not swap:
            outcome = replace(outcome, result="valid")
        elif linked != target:
            self._mirror.keep(commit)
            self._checkouts.swap(self._link, target)
            outcome = replace(outcome, result="applied", applied=commit)
        self._checkouts.prune(self._checkouts.linked(self._link), target)
        return outcome

    def _shorter(self, problem: str, target: Path) -> str:
        """A problem with its files named as they are in the repository."""
        path = self._config.path
        if path == ".":
            return problem.replace(f"{target}/", "").replace(f"{target}:", "")
        return problem.replace(os.fspath(target).removesuffix(path), "")


def _only_hosts(found: Load) -> bool:
    """Whether it declares hosts and nobody yet, as a fleet's first commit does. Later, nobody may mean that a merge
    went wrong, so whoever is in use is not given up for it.
    """
    return bool(found.hosts) and {problem.reason for problem in found.problems} == {"SourceEmpty"}


@contextmanager
def _alone(settings: HostSettings, wait: float) -> Iterator[None]:
    """One sync at a time, under a lock of its own: the controller works on meanwhile."""
    make_folder(settings.sync)
    with ExitStack() as stack:
        try:
            stack.enter_context(only_controller(settings.sync, wait))
        except RetryableError as error:
            if error.reason != "Locked":
                raise
            raise RetryableError("another sync is at work", remedy="wait for it", reason="Locked") from None
        yield


def _disk_fault(error: OSError, folder: Path) -> RetryableError:
    return RetryableError(
        f"{error.filename or folder}: {error.strerror}",
        remedy="look at the disk and the permissions",
        reason="DiskFault",
    )


def _summary(outcome: Outcome) -> str:
    if not outcome.refused:
        return ""
    more = f" (and {len(outcome.problems) - 1} more)" if len(outcome.problems) > 1 else ""
    return f"{outcome.problems[0]}{more}" if outcome.problems else "the manifests are not whole"


def _record(settings: HostSettings, config: SyncConfig, now: datetime, tip: Tip | None, error: str) -> None:
    """Write down how it ended. Where nothing could be fetched, what was tried before stays."""
    known = read_state(settings)
    state = {
        "repository": config.repository,
        "ref": config.ref,
        "tried": tip.commit if tip is not None else known.get("tried", ""),
        "applied": revision(settings).applied,
        "error": error[:_TOLD],
        "at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    write_atomically(state_file(settings), json.dumps(state, indent=2) + "\n")
