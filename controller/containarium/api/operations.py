"""What both services can do, once: edits go into manifests, the controller makes the host follow, all else looks.

What it works with is handed in, so that the same stands over a real host and over a simulated one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import grpc

from containarium.api.errands import Errands
from containarium.api.errors import CallError
from containarium.api.follow import Follower, Goal, State, Step
from containarium.api.gate import Call
from containarium.host.doctor.finding import Finding
from containarium.host.meter import System, Usage
from containarium.model.base import InvalidValueError
from containarium.model.host import Progress
from containarium.model.manifest import Load
from containarium.model.observed import Observed
from containarium.model.sshkey import SSHKey
from containarium.plan.decision import Plan
from containarium.report.statusfile import Status

SETTLED = 2.0
"""Seconds after which a pass takes it for over."""


class Manifests(Protocol):
    """Edits the host's own folder of manifests; each method one file, whole or not at all.

    Each raises CallError, HostError or EditRefusedError, and has changed nothing then.
    """

    def create(self, document: Mapping[str, Any]) -> None:
        """Write the manifest of a new environment, given as its YAML would read. Raises CallError (ALREADY_EXISTS)."""
        ...

    def set(self, name: str, fields: Mapping[str, str | bool]) -> None:
        """Give fields new values, by their dotted paths (``spec.resources.cpu``)."""
        ...

    def delete(
        self, names: Sequence[str], approved: str, *, backup: bool | None, at_once: bool,
        pause: Callable[[float], None],
    ) -> Callable[[], None]:  # fmt: skip
        """Take the manifests away, once the containers say how their data goes; what fails is taken back whole.

        Returns what is to be called when the data is gone: a manifest that stays, expired, says again what it said.
        ``approved`` is the digest of a set that is more than may go at once. ``backup``: None leaves it as declared.
        ``pause`` waits so many seconds, and may raise CallError.
        """
        ...

    def add_key(self, name: str, line: str) -> int:
        """Add a public key, if it is not there; returns how many there are then."""
        ...

    def remove_key(self, name: str, line: str) -> int:
        """Remove a public key (a line, or a fingerprint); returns how many are left."""
        ...


class Seen(Protocol):
    """Manifests, one look at the host, and the plan between the two."""

    @property
    def load(self) -> Load: ...

    @property
    def observed(self) -> Observed: ...

    @property
    def plan(self) -> Plan: ...


class Views(Protocol):
    """Looks at the host and shows it as the commands do. Each may raise HostError."""

    def look(self, *, deep: bool = False, approved: frozenset[str] = frozenset(), restart: bool = False) -> Seen:
        """Look now."""
        ...

    def rows(self, *, live: bool) -> tuple[list[dict[str, Any]], list[str]]:
        """What ``list`` prints, and what it says beside."""
        ...

    def details(self, name: str, *, deep: bool) -> tuple[dict[str, Any], list[str]]:
        """What ``info`` prints. Raises CallError (NOT_FOUND)."""
        ...

    def status(self) -> dict[str, Any]:
        """What ``status -o json`` prints. Raises HostError where no controller has run."""
        ...

    def events(self, name: str, limit: int) -> list[dict[str, Any]]:
        """What ``events -o json`` prints."""
        ...

    def doctor(self) -> Sequence[Finding]:
        """What ``doctor`` finds."""
        ...

    def access(self, name: str) -> Access:
        """What ``export`` is made of. Raises CallError."""
        ...


class Words(Protocol):
    """An admin's word to the controller; each lets it look at once. Each may raise HostError and CallError."""

    def approve(self, digest: str) -> tuple[str, tuple[str, ...]]:
        """Returns what is to happen (retire, prune), and to whom."""
        ...

    def suspend(self, name: str) -> bool:
        """Returns False where it was so already."""
        ...

    def resume(self, name: str) -> bool:
        """Returns False where it was not suspended on the host."""
        ...


class Archive(Protocol):
    """Backups and snapshots, as the commands make them; each tells its steps and returns a sentence.

    Each may raise HostError and CallError.
    """

    def backup(self, name: str, tell: Progress, *, stop: bool) -> str:
        """Into the host's own folder."""
        ...

    def restore(self, name: str, backup: str, tell: Progress) -> str:
        """``backup`` is a file's name in that folder; empty: the newest."""
        ...

    def undelete(self, name: str, tell: Progress) -> str:
        """Write its manifest again."""
        ...

    def snapshots(self, name: str) -> list[dict[str, Any]]:
        """What ``snapshot list`` prints."""
        ...

    def take(self, name: str, snapshot: str, expires: str, tell: Progress) -> str:
        """A new snapshot."""
        ...

    def go_back(self, name: str, snapshot: str, tell: Progress, *, safety: bool) -> str:
        """The files of then."""
        ...

    def drop(self, name: str, snapshot: str) -> str:
        """One snapshot less."""
        ...


class Trail(Protocol):
    """Who was here, and who changed what. Each may raise HostError and CallError."""

    def sessions(self, name: str) -> list[dict[str, Any]]:
        """What ``sessions`` prints."""
        ...

    def audit(self, name: str, since: str, until: str) -> dict[str, Any]:
        """What ``audit`` prints."""
        ...


class Meter(Protocol):
    """See ``containarium.host.meter.Meter``."""

    def usage(self, name: str = "") -> tuple[Usage, ...]: ...

    def system(self) -> System: ...


@dataclass(frozen=True, slots=True)
class Access:
    """How a person reaches an environment: see ``cli.sshconfig.Route``."""

    address: str
    jump_host: str
    jump_host_keys: tuple[str, ...]
    guest_keys: tuple[str, ...]
    jump_port: int


@dataclass(frozen=True, slots=True)
class Operations:
    """Every method that changes something notes who wants it first, and goes on when nobody waits for it any more."""

    manifests: Manifests
    views: Views
    words: Words
    meter: Meter
    archive: Archive
    trail: Trail
    follower: Follower
    status: Callable[[], Status | None]
    controller: Callable[[], None]
    """Raises HostError (NoController) where no controller runs."""
    restart: Callable[[Sequence[str]], None]
    """Lets the controller restart these (``*``: all) where a change acts only after a restart."""
    clock: Callable[[], datetime]
    errands: Errands = field(default_factory=Errands)

    def errand(self, call: Call, about: Mapping[str, str], do: Callable[[Progress], str]) -> Iterator[Step]:
        """Something with the files of one environment (``about["environment"]``) that takes a while."""
        call.check()
        call.audit(about)
        return self.errands.run(call, about["environment"], do)

    def create(self, call: Call, document: Mapping[str, Any]) -> Iterator[Step]:
        """A new environment."""
        name = _name_of(document)
        return self._changed(call, name, {"environment": name}, lambda: self.manifests.create(document), Goal.READY)

    def set(self, call: Call, name: str, fields: Mapping[str, str | bool]) -> Iterator[Step]:
        """New values for fields."""
        about = {"environment": name, **{field.rpartition(".")[2]: str(value) for field, value in fields.items()}}
        return self._changed(call, name, about, lambda: self.manifests.set(name, fields), Goal.IN_FORCE)

    def delete(
        self, call: Call, names: Sequence[str], *, force: bool, backup: bool, approved: str = ""
    ) -> Iterator[Step]:
        """Access ends now; the data goes after the grace period, or with ``force`` at once.

        What is to become of the data stands on the containers before the manifests go.
        """
        about = {"environment": " ".join(names), "force": str(force).lower(), "backup": str(backup).lower()}

        def pause(seconds: float) -> None:
            call.wait(seconds)
            call.check()

        self._may_begin(call, about)
        wish = backup if backup or force else None
        settle = self.manifests.delete(names, approved, backup=wish, at_once=force, pause=pause)
        for step in self.follower.until_there(call, names, self.clock(), Goal.SHUT):
            if not force or step.state is State.FAILED:
                yield step
        if force:
            call.wait(SETTLED)
            gone = set()
            for step in self.follower.until_there(call, names, self.clock(), Goal.GONE):
                if step.state is State.DONE:
                    gone.add(step.environment)
                yield step
            if gone >= set(names):
                settle()

    def add_key(self, call: Call, name: str, line: str) -> tuple[int, Iterator[Step]]:
        """Another key; returns how many there are then."""
        return self._keys(call, name, line, self.manifests.add_key)

    def remove_key(self, call: Call, name: str, line: str) -> tuple[int, Iterator[Step]]:
        """One key less; returns how many are left."""
        return self._keys(call, name, line, self.manifests.remove_key)

    def apply(self, call: Call, only: Sequence[str], approve: Sequence[str], *, restart: bool) -> Iterator[Step]:
        """Make the host as declared, now, and tell how everybody gets on who is not as declared yet."""
        call.check()
        self.controller()
        about = {"only": " ".join(only), "approve": " ".join(approve), "restart": str(restart).lower()}
        call.audit({key: value for key, value in about.items() if value and value != "false"})
        for digest in approve:
            self.words.approve(digest)
        since = self.clock()
        if restart:
            self.restart(only or ["*"])
        yield from self.follower.until_there(call, only, since)

    def watch(self, call: Call, names: Sequence[str]) -> Iterator[Step]:
        """How everybody gets on, until the call is over."""
        return self.follower.watch(call, names)

    def approve(self, call: Call, digest: str) -> tuple[str, tuple[str, ...]]:
        """Let exactly this set go."""
        call.check()
        call.audit({"digest": digest})
        verb, names = self.words.approve(digest)
        call.audit({"digest": digest, "environment": " ".join(names)})
        return verb, names

    def suspend(self, call: Call, name: str, *, suspended: bool) -> bool:
        """Leave an environment alone, or look after it again."""
        call.check()
        call.audit({"environment": name})
        return self.words.suspend(name) if suspended else self.words.resume(name)

    def finish(self, steps: Iterator[Step]) -> None:
        """Wait for the last step. Raises CallError for the first environment that does not get there."""
        for step in steps:
            if step.state is State.FAILED:
                raise CallError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"{step.environment}: {step.message}",
                    f"its manifest is written; see containarium info {step.environment}",
                    reason="NotReached",
                )

    def _keys(self, call: Call, name: str, line: str, edit: Callable[[str, str], int]) -> tuple[int, Iterator[Step]]:
        self._may_begin(call, {"environment": name, "key": _fingerprint(line)})
        number = edit(name, line)
        return number, self.follower.until_there(call, [name], self.clock(), Goal.IN_FORCE)

    def _changed(
        self, call: Call, name: str, about: Mapping[str, str], edit: Callable[[], None], goal: Goal
    ) -> Iterator[Step]:
        self._may_begin(call, about)
        edit()
        yield from self.follower.until_there(call, [name], self.clock(), goal)

    def _may_begin(self, call: Call, about: Mapping[str, str]) -> None:
        """Nothing is edited that nobody wants any more, or that nobody would carry out."""
        call.check()
        self.controller()
        call.audit(about)


def _fingerprint(line: str) -> str:
    """Of a public key; what is none (it may be a fingerprint) as it is, bounded."""
    try:
        return SSHKey.parse(line).fingerprint
    except InvalidValueError:
        return line[:100]


def _name_of(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str) or not name:
        raise CallError(grpc.StatusCode.INVALID_ARGUMENT, "the manifest has no metadata.name", reason="Invalid")
    return name
