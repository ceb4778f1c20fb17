"""Manifests become desired environments, or problems: ownership, addresses, and what cannot be undone.

A manifest with a problem keeps its environment exactly as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from ipaddress import AddressValueError, IPv4Address

from containarium.model import marks
from containarium.model.environment import Environment
from containarium.model.manifest import Manifest
from containarium.model.observed import Account, HostFacts, Instance, Observed
from containarium.model.problem import Problem
from containarium.model.quantity import parse_bytes
from containarium.plan import addresses
from containarium.plan.addressbook import AddressBook, refuse
from containarium.plan.adopt import obstacles_to_adoption
from containarium.plan.decision import Interlock, Place, Stand, Suspicion, Verb
from containarium.plan.desired import ROOT_DEVICE, desire
from containarium.plan.fleet import NAMES, Decision, Fleet, Hold, Step, Trouble
from containarium.plan.placement import decide
from containarium.plan.safety import heed
from containarium.plan.terms import Approval


@dataclass(frozen=True, slots=True)
class Resolution:
    """Every manifest sorted into what is to be done about it."""

    settled: tuple[tuple[Manifest, str], ...]
    """Those that stand, each with its address. What is desired of one is worked out when its turn comes: of ten
    thousand at once it would be a large part of the controller's memory.
    """
    problems: tuple[Problem, ...]
    suspended: tuple[str, ...]
    elsewhere: tuple[str, ...]
    expired: tuple[Manifest, ...]
    held_address: tuple[str, ...]
    """Environments that keep their present address until an admin allows the restart that a new one needs."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """Where there is a fleet: what is to be done on this host about each that stands, approvals heeded."""
    away: tuple[Manifest, ...] = ()
    """Those that stand and do not run here."""
    frozen: tuple[Manifest, ...] = ()
    """Those that are refused because nobody can tell on which host they are to run: only who gets in still changes."""
    interlocks: tuple[Interlock, ...] = ()


def resolve(
    manifests: Sequence[Manifest],
    observed: Observed,
    today: date,
    *,
    may_restart: Callable[[str], bool],
    claims: Mapping[str, str],
    fleet: Fleet | None = None,
    approved: frozenset[str | Approval] = frozenset(),
) -> Resolution:
    """Sort the manifests, refuse what must be refused, and give every other environment its address.

    ``may_restart`` says for which names an admin allows changes that need one (a new address for a running guest),
    ``claims`` which addresses were promised to work that is under way. ``fleet`` is None where no hosts are declared.
    """
    sorted_out = _sort_out(manifests, observed, today, fleet)
    decisions, interlocks = heed(sorted_out.decisions, approved)
    wanted, away, problems = list(sorted_out.wanted), list[Manifest](), list(sorted_out.problems)
    frozen: list[Manifest] = []
    for manifest in sorted_out.standing:
        decision = decisions[manifest.name]
        runs_here = decision.step in (Step.SETTLE, Step.FETCH, Step.REMAKE)
        refused = _account_conflict(manifest, observed)
        if decision.refused is not None:
            frozen += [manifest] if refused is None else []
            refused = _not_placeable(manifest, decision.refused)
        if runs_here:
            refused = refused or conflict(manifest, observed) or _shrinking(manifest, observed)
        if refused is not None:
            problems.append(refused)
        else:
            (wanted if runs_here else away).append(manifest)
    book = AddressBook(wanted, observed, may_restart, claims)
    settled: list[tuple[Manifest, str]] = []
    for manifest in wanted:
        result = book.settle(manifest)
        if isinstance(result, str):
            result = _not_adoptable(manifest, result, observed) or result
        if isinstance(result, Problem):
            problems.append(result)
        else:
            settled.append((manifest, result))
    return Resolution(
        settled=tuple(settled),
        problems=tuple(sorted(problems)),
        suspended=tuple(sorted_out.suspended),
        elsewhere=tuple(sorted_out.elsewhere),
        expired=tuple(sorted_out.expired),
        held_address=tuple(book.held),
        decisions=decisions,
        away=tuple(away),
        frozen=tuple(frozen),
        interlocks=interlocks,
    )


@dataclass(slots=True)
class _Sorted:
    """The manifests by what is to be done about them at all. ``standing`` are those whose host is to be decided."""

    wanted: list[Manifest] = field(default_factory=list)
    standing: list[Manifest] = field(default_factory=list)
    decisions: dict[str, Decision] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    suspended: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    expired: list[Manifest] = field(default_factory=list)


def _sort_out(manifests: Sequence[Manifest], observed: Observed, today: date, fleet: Fleet | None) -> _Sorted:
    left_alone = suspended_here(observed)
    found = _Sorted()
    for manifest in sorted(manifests, key=lambda m: m.name):
        environment = manifest.environment
        if environment.metadata.suspended or manifest.name in left_alone:
            found.suspended.append(manifest.name)
        elif fleet is None and _placed_elsewhere(environment, observed.host):
            found.elsewhere.append(manifest.name)
        elif environment.spec.expires is not None and environment.spec.expires < today:
            found.expired.append(manifest)
        elif fleet is not None:
            found.standing.append(manifest)
            found.decisions[manifest.name] = decide(fleet, manifest)
        elif problem := conflict(manifest, observed) or _shrinking(manifest, observed):
            found.problems.append(problem)
        elif _lives_on_another_host(manifest.name, observed):
            found.standing.append(manifest)
            found.decisions[manifest.name] = _not_ours()
        else:
            found.wanted.append(manifest)
    return found


def owned_account(account: Account) -> bool:
    """Whether a jump account is ours."""
    return marks.owns_account(account.name, account.group, account.comment, account.home)


def suspended_here(observed: Observed) -> frozenset[str]:
    """The environments that an admin wants left alone, as it stands on their instances, or works on at this moment."""
    return observed.held | frozenset(
        environment
        for instance in observed.instances.values()
        if marks.SUSPENDED in instance.config and (environment := instance.config.get(marks.ENVIRONMENT))
    )


def conflict(manifest: Manifest, observed: Observed) -> Problem | None:
    """A foreign instance or account that has the name which this environment needs."""
    name = manifest.name
    instance = observed.instances.get(marks.instance_name(name))
    if instance is not None and instance.config.get(marks.ENVIRONMENT) != name and not _adopts(manifest, instance):
        return refuse(
            manifest,
            "metadata.name",
            f"an Incus instance {instance.name!r} exists and is not ours",
            f"choose another name, rename that instance (incus rename {instance.name} NEW), or take it over with the "
            'annotation containarium.dev/adopt: "true"',
            "Conflict",
        )
    return _account_conflict(manifest, observed)


def _account_conflict(manifest: Manifest, observed: Observed) -> Problem | None:
    account = observed.accounts.get(manifest.name)
    if account is None or owned_account(account):
        return None
    return refuse(
        manifest,
        "metadata.name",
        f"an account {manifest.name!r} (uid {account.uid}) exists on the host and is not ours",
        _way_out(account),
        "Conflict",
    )


def _not_placeable(manifest: Manifest, trouble: Trouble) -> Problem:
    return refuse(manifest, "spec.placement.host", trouble.message, trouble.remedy, trouble.reason)


def _adopts(manifest: Manifest, instance: Instance) -> bool:
    """Whether the manifest takes over an instance that nobody has marked."""
    return manifest.environment.metadata.adopts and marks.ENVIRONMENT not in instance.config


def _not_adoptable(manifest: Manifest, address: str, observed: Observed) -> Problem | None:
    instance = observed.instances.get(marks.instance_name(manifest.name))
    if instance is None or not _adopts(manifest, instance):
        return None
    obstacles = obstacles_to_adoption(desire(manifest, observed.host, address), instance)
    if not obstacles:
        return None
    return refuse(
        manifest,
        "metadata.annotations",
        f"{instance.name} is not adopted: {', '.join(obstacles)} cannot change while it runs",
        f"stop it first (incus stop {instance.name}), or make the manifest say what it is",
        "AdoptionRefused",
    )


def _way_out(account: Account) -> str:
    """What to do about a foreign account. With half of our mark it may be a jump account that was changed."""
    comment = marks.account_comment(account.name)
    if account.comment == comment:
        return f"if it is its jump account, give its group back (usermod -g {marks.JUMP_GROUP} {account.name})"
    if account.group == marks.JUMP_GROUP:
        return f"if it is its jump account, give its comment back (usermod -c '{comment}' {account.name})"
    return "choose another name"


def _shrinking(manifest: Manifest, observed: Observed) -> Problem | None:
    instance = observed.instances.get(marks.instance_name(manifest.name))
    size = instance.devices.get(ROOT_DEVICE, {}).get("size") if instance is not None else None
    disk = manifest.environment.spec.resources.disk
    try:
        if not size or size == str(disk) or disk.bytes >= parse_bytes(size):
            return None
    except ValueError:  # a spelling of Incus' own that nobody knows here: Incus itself refuses to shrink
        return None
    return refuse(
        manifest,
        "spec.resources.disk",
        f"the disk has {size} and cannot shrink to {disk}",
        f"write {size} or more; to really shrink it, move the data to a new environment",
        "DiskShrinkRefused",
    )


def _placed_elsewhere(environment: Environment, host: HostFacts) -> bool:
    placement = environment.spec.placement
    return placement is not None and bool(placement.host) and placement.host != host.name


def _lives_on_another_host(name: str, observed: Observed) -> bool:
    """Whether its jump account leads out of this host's subnet, as those of a fleet do, and nothing of it is here."""
    promised = addresses.promised(observed, name)
    if promised is None or marks.instance_name(name) in observed.instances:
        return False
    try:
        return IPv4Address(promised) not in observed.host.subnet.network
    except AddressValueError:
        return False


def _not_ours() -> Decision:
    """Without any Host manifest nobody knows the host that has it."""
    message = f"the jump account of {NAMES} leads to another host, and no hosts are declared"
    hold = Hold(Suspicion.NOT_DECLARED, message, "put the Host manifests back", Verb.CREATE)
    return Decision(Place(Stand.WAITING, message="no hosts are declared"), Step.KEEP, hold=hold, then=Step.SETTLE)
