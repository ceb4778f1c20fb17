"""What goes away: environments whose manifest is gone or has expired. Access first, data only after a grace period."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from containarium.model import marks
from containarium.model.action import (
    Action,
    BackupInstance,
    Change,
    DeleteAccount,
    DeleteInstance,
    EnsureAccount,
    Impact,
    LockAccount,
    StopInstance,
    UpdateInstance,
    WriteAccountKeys,
)
from containarium.model.manifest import Manifest
from containarium.model.observed import Account, Instance, InstanceStatus, Observed
from containarium.model.quantity import Duration
from containarium.plan.decision import EnvironmentPlan, Verb
from containarium.plan.desired import AUTOSTART, PROTECTION, deletion_mark
from containarium.plan.resolve import owned_account

_DEFAULT_DELETION = "Retire;7d"
REACHED_RETIRED = "retired"
"""Stands where the digest stood, so that bringing the manifest back is no drift."""


@dataclass(frozen=True, slots=True)
class Departure:
    """One environment on its way out, with everything of it that is still here."""

    name: str
    instance: Instance | None
    account: Account | None
    orphan_keys: bool
    foreign_account: bool
    """The account of this name is somebody else's by now, or leads to another host: it stays as it is."""
    deletion: str
    reworded: bool
    """Its manifest, which has expired, says by now that it goes otherwise than its instance says."""
    protect: bool
    """Its manifest, which has expired, asks for a protection that the instance does not have yet."""
    why: str

    @property
    def retired(self) -> bool:
        """Whether its retirement has been written down already, and here.

        A date before its creation does not count: it is of a clock that had not been set yet, and so is the other one.
        Neither does a date without the locked account that goes with it: it came with a restored backup or a disk from
        elsewhere, and the data gets a grace period of its own. What was left behind at a move has the date of the move,
        and its account leads to where it lives.
        """
        moved = self.instance is not None and marks.MOVED in self.instance.config
        if moved and self.account is not None and not self.account.expired:
            return False
        if self.account is None and not self.foreign_account:
            return False
        since = self.instance.config.get(marks.RETIRED, "") if self.instance is not None else ""
        created = _moment(self.instance.created_at) if self.instance is not None else None
        retired = _moment(since)
        return bool(since) and not (created and retired and retired < created)

    def dates(self, now: datetime, since: datetime | None = None) -> dict[str, str]:
        """What is written down when it is retired."""
        rule = policy(self.deletion)
        until = "" if rule.keep else _stamp(_later(since or now, rule.grace))
        config = {marks.RETIRED: _stamp(since or now), marks.PRUNE_AFTER: until, marks.DELETION: self.deletion}
        # What was never finished must not look finished when it comes back.
        if self.instance is not None and marks.APPLIED in self.instance.config:
            config[marks.APPLIED] = REACHED_RETIRED
        return config

    def went_after(self, moment: datetime) -> bool:
        """Whether it was retired after that moment."""
        since = _moment(self.instance.config.get(marks.RETIRED, "")) if self.instance is not None else None
        return self.retired and since is not None and since > moment


class Policy(NamedTuple):
    """A deletion mark, read back."""

    keep: bool
    grace: timedelta
    backup: bool


def policy(mark: str) -> Policy:
    """Read ``Retire;7d;backup``. Anything unreadable means: keep it, and never without a backup."""
    kind, _, rest = mark.partition(";")
    grace, _, backup = rest.partition(";")
    try:
        return Policy(kind != "Retire", Duration.parse(grace).delta, backup != "")
    except ValueError:
        return Policy(True, timedelta.max, True)


def departures(observed: Observed, kept: frozenset[str], expired: tuple[Manifest, ...]) -> tuple[Departure, ...]:
    """Everything of ours that no manifest in ``kept`` asks for, sorted by name."""
    gone = {manifest.name: manifest for manifest in expired}
    names = {
        environment
        for instance in observed.instances.values()
        if (environment := instance.config.get(marks.ENVIRONMENT)) is not None
        and instance.name == marks.instance_name(environment)
    }
    names |= {account.name for account in observed.accounts.values() if owned_account(account)} | observed.orphan_keys
    return tuple(_departure(name, observed, gone.get(name)) for name in sorted(names - kept))


def _departure(name: str, observed: Observed, manifest: Manifest | None) -> Departure:
    instance = observed.instances.get(marks.instance_name(name))
    if instance is not None and instance.config.get(marks.ENVIRONMENT) != name:
        instance = None
    account = observed.accounts.get(name)
    foreign = account is not None and not owned_account(account)
    if foreign:
        account = None
    mark = instance.config.get(marks.DELETION, _DEFAULT_DELETION) if instance is not None else _DEFAULT_DELETION
    return Departure(
        name=name,
        instance=instance,
        account=account,
        orphan_keys=name in observed.orphan_keys,
        foreign_account=foreign,
        deletion=deletion_mark(manifest) if manifest is not None else mark,
        reworded=manifest is not None and deletion_mark(manifest) != mark,
        protect=manifest is not None and _to_be_protected(manifest, instance),
        why=f"expired on {manifest.environment.spec.expires}" if manifest is not None else "its manifest is gone",
    )


def left_behind(name: str, instance: Instance, why: str, manifest: Manifest | None = None) -> Departure:
    """What stays on a host when an environment has moved: an instance alone, for its account leads to where it lives.

    ``manifest`` says how it goes; None: as it stands on the instance.
    """
    deletion = deletion_mark(manifest) if manifest is not None else instance.config.get(marks.DELETION, "")
    return Departure(
        name=name,
        instance=instance,
        account=None,
        orphan_keys=False,
        foreign_account=True,
        deletion=deletion or _DEFAULT_DELETION,
        reworded=False,
        protect=False,
        why=why,
    )


def _to_be_protected(manifest: Manifest, instance: Instance | None) -> bool:
    asked = manifest.environment.spec.deletion.protect
    return bool(asked) and instance is not None and not _shielded(instance)


def retire(departure: Departure, now: datetime) -> EnvironmentPlan:
    """Cut access, stop the container, write the dates down. For a retired one: whatever of this was undone."""
    actions = (*_access(departure), *_rest(departure, now))
    if not actions:
        return EnvironmentPlan(departure.name, Verb.NONE)
    edited = departure.reworded or departure.protect
    verb = Verb.RETIRE if not departure.retired else Verb.UPDATE if edited else Verb.REPAIR
    return EnvironmentPlan(departure.name, verb, actions, reason=departure.why)


def _access(departure: Departure) -> Iterator[Action]:
    name, account = departure.name, departure.account
    if departure.orphan_keys or (account is not None and account.keys is not None):
        change = Change("account.keys", "present", None)
        yield WriteAccountKeys(environment=name, account=name, lines=(), changes=(change,))
    if departure.instance is not None and account is None and not departure.foreign_account:
        yield EnsureAccount(environment=name, account=name, changes=(Change("account", None, "a locked one"),))
    if departure.instance is not None and not departure.foreign_account and (account is None or not account.expired):
        change = Change("account", "open", "locked")
        yield LockAccount(environment=name, account=name, changes=(change,))
    if account is not None and departure.instance is None:
        # With no container left, the account is all there is: it holds no data and can go at once.
        yield DeleteAccount(environment=name, account=name, changes=(Change("account", "present", None),))


def _rest(departure: Departure, now: datetime) -> Iterator[Action]:
    instance, name = departure.instance, departure.name
    if instance is None:
        return
    config: dict[str, str] = {}
    changes: list[Change] = []
    since = _moment(instance.config.get(marks.RETIRED, "")) if departure.retired else None
    if not departure.retired or departure.reworded:
        config |= departure.dates(now, since)
        until = config[marks.PRUNE_AFTER]
        changes.append(Change("retired", None, f"data kept until {until}" if until else "data kept"))
    if departure.protect:
        config[PROTECTION] = "true"
        changes.append(Change("spec.deletion.protect", None, "true"))
    if instance.config.get(AUTOSTART) != "false":
        config[AUTOSTART] = "false"
        changes.append(Change("spec.autostart", instance.config.get(AUTOSTART), "false"))
    if config:
        yield UpdateInstance(environment=name, instance=instance.name, config=config, changes=tuple(changes))
    if instance.status is not InstanceStatus.STOPPED:
        change = Change("spec.running", instance.status.value, InstanceStatus.STOPPED.value)
        yield StopInstance(environment=name, instance=instance.name, changes=(change,))


def due(departure: Departure, now: datetime) -> bool:
    """Whether the grace period of a retired environment is over. Its own instance says so, nothing else does."""
    if departure.instance is None or not departure.retired:
        return False
    if departure.reworded or departure.protect:  # that is written down first
        return False
    until = _moment(departure.instance.config.get(marks.PRUNE_AFTER, ""))
    return until is not None and until <= now


def protected(departure: Departure) -> bool:
    """Whether protection stands on the live object, whatever any file says."""
    return departure.instance is not None and _shielded(departure.instance)


def _shielded(instance: Instance) -> bool:
    return instance.config.get(PROTECTION, "").lower() in ("true", "1", "yes", "on")


def prune(departure: Departure) -> EnvironmentPlan:
    """Delete the data of an environment whose grace period is over: after its backup, where one is asked for.

    The order is the safety: an action that fails leaves out those after it.
    """
    name = departure.name
    actions: list[Action] = list(_access(departure))
    if departure.instance is not None:
        if departure.instance.status is not InstanceStatus.STOPPED:
            actions.append(StopInstance(environment=name, instance=departure.instance.name))
        if policy(departure.deletion).backup:
            made = Change("backup", None, "made and verified before the deletion")
            actions.append(BackupInstance(environment=name, instance=departure.instance.name, changes=(made,)))
        change = Change("instance", departure.instance.name, None, Impact.LIVE)
        actions.append(
            DeleteInstance(
                environment=name, instance=departure.instance.name, reason="grace period over", changes=(change,)
            )
        )
    if departure.account is not None:
        actions.append(DeleteAccount(environment=name, account=name, changes=(Change("account", "present", None),)))
    return EnvironmentPlan(name, Verb.PRUNE, tuple(actions), reason="its grace period is over")


def _later(now: datetime, grace: timedelta) -> datetime:
    try:
        return now + grace
    except OverflowError:
        return datetime.max.replace(tzinfo=now.tzinfo)


def _moment(stamp: str) -> datetime | None:
    """A time with its zone; None for anything else."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
