"""On which host of a fleet each environment runs, and what that means for this one.

Every host decides for itself, from the same manifests and from what the others told. The rules are such that two who
decide differently for a while (one has newer manifests, or an older answer) still never both run an environment:

- The right to run goes over at one point: the copy on the new host loses its mark of an arrival. That happens only
  while the old host says that it is leaving to there.
- The old host takes a departure back only when the new one has nothing of it. The new one throws a part away only when
  its own manifests place the environment elsewhere, so from then on it does not commit either.
- Whoever does not answer counts as having what he told last, and nothing is made anew past him. Nor is it past a host
  that was taken off the list, where the jump account here leads to it. A new host has no such account, and cannot know.
"""

from __future__ import annotations

from dataclasses import replace

from containarium.model import marks
from containarium.model.fleet import Box, Presence
from containarium.model.manifest import Manifest
from containarium.plan import addresses
from containarium.plan.decision import Place, Stand, Suspicion, Verb
from containarium.plan.fleet import NAMES, Decision, Fleet, Hold, Step, Trouble, rendezvous, takes_part
from containarium.plan.presence import box_of, is_whole, unstartable


def decide(fleet: Fleet, manifest: Manifest) -> Decision:
    """What is to be done about one environment on this host, which has to be declared."""
    return _Case(fleet, manifest).decide()


class _Case:
    """One environment, seen from this host."""

    def __init__(self, fleet: Fleet, manifest: Manifest) -> None:
        self._fleet, self._name = fleet, manifest.name
        placement = manifest.environment.spec.placement
        self._placed = placement.host if placement is not None else ""
        instance = fleet.observed.instances.get(marks.instance_name(self._name))
        if instance is not None and (instance.config.get(marks.ENVIRONMENT) != self._name or unstartable(instance)):
            instance = None  # somebody else's, or to be adopted, or nothing but a row
        self._own = box_of(self._name, instance) if instance is not None else None
        self._whole = instance is not None and is_whole(instance)
        told = {host: box for host in fleet.peers if (box := fleet.box(host, self._name)) is not None}
        self._boxes: dict[str, Box] = told | ({fleet.own: self._own} if self._own is not None else {})
        self._holders = frozenset(host for host, box in self._boxes.items() if self._has(host, box))
        self._others = self._holders - {fleet.own}
        self._door = addresses.promised(fleet.observed, self._name) or ""
        self._silent = tuple(host for host in fleet.silent if self._may_have(host))

    def _may_have(self, host: str) -> bool:
        """Whether one that does not answer may have it. A host that takes no part cannot ask: what is placed on it by
        name is in doubt only where its door leads away. A host that takes no part may well have something, though: all
        that it had before there was a fleet.
        """
        own = self._fleet.hosts.get(self._fleet.own)
        apart = self._placed == self._fleet.own and own is not None and not takes_part(own)
        return not apart or self._leads_to(host) or host in self._boxes

    def _has(self, host: str, box: Box) -> bool:
        """Whether a host has it. One that lets it go has it no more when another has it; it may not have heard of that,
        and the other may have given it on since.
        """
        if not self._fleet.answers(host) and any(self._fleet.answers(other) for other in self._at(Presence.HERE)):
            return False  # it told that before the other got it
        if box.presence is not Presence.LEAVING:
            return box.presence in (Presence.HERE, Presence.RETIRED)
        if any(other.presence in (Presence.HERE, Presence.RETIRED) for other in self._boxes.values()):
            return False
        taker = self._boxes.get(box.other)
        # What is there comes from here, or went here once, so that it is older; all else is of a later move.
        return taker is None or box.other == host or taker.other == host

    def _at(self, presence: Presence) -> dict[str, Box]:
        return {host: box for host, box in self._boxes.items() if box.presence is presence}

    # Where it is to run

    def decide(self) -> Decision:
        if self._placed and self._placed not in self._fleet.hosts:
            known = ", ".join(sorted(self._fleet.hosts))
            trouble = Trouble(
                f"there is no Host manifest of {self._placed}", f"write one of {known}, or declare it", "HostUnknown"
            )
            return Decision(Place(Stand.WAITING, message=trouble.message), Step.KEEP, refused=trouble)
        if not self._placed and len(self._holders) > 1:
            return self._twice()
        target = self._placed or next(iter(self._holders), "") or self._last_known()
        if target == self._fleet.own:
            return self._here()
        return self._elsewhere(target) if target else self._nobodys()

    def _last_known(self) -> str:
        """The host on which it was last, where nobody who answers has it now; empty where nothing points at one."""
        for box in self._at(Presence.MOVED).values():
            if box.other in self._silent:
                return box.other
        for host in self._silent:
            if self._leads_to(host):
                return host
        if self._silent:
            return ""
        return self._newest_left() or min(self._at(Presence.ARRIVING), default="") or self._hashed()

    def _hashed(self) -> str:
        if set(self._fleet.hosts) == {self._fleet.own}:
            return self._fleet.own
        return rendezvous(self._name, (name for name, host in self._fleet.hosts.items() if takes_part(host)))

    def _leads_to(self, host: str) -> bool:
        """Whether the jump account here leads to a guest of a declared host."""
        return addresses.usable(self._fleet.hosts[host].manifest.spec.network.subnet, self._door)

    def _newest_left(self) -> str:
        """Of those who have what was left behind at a move, the one from which it went to nobody of them."""
        left = self._at(Presence.MOVED)
        return min((host for host, box in left.items() if box.other not in left), default="")

    def _nobodys(self) -> Decision:
        """Nobody who answers has it, and one who does not may."""
        chosen = self._hashed()
        if chosen == self._fleet.own:
            return self._here()
        silent = self._fleet.why_silent(self._silent)
        message = f"it is not known on which host it lives: no answer from {silent}" if silent else "no host takes part"
        return Decision(Place(Stand.WAITING, message=message), Step.KEEP)

    # It is to run here

    def _here(self) -> Decision:
        if self._own is None:
            return self._absent()
        match self._own.presence:
            case Presence.HERE:
                return self._settle()
            case Presence.RETIRED:
                return self._twice() if self._others else self._settle()
            case Presence.LEAVING if self._fleet.own in self._holders:
                return self._taken_back(self._own.other)
            case Presence.LEAVING | Presence.MOVED:
                return self._brought_back()
            case Presence.ARRIVING:
                return self._arrived(self._own.other)

    def _settle(self) -> Decision:
        return Decision(Place(Stand.HERE, self._fleet.own), Step.SETTLE)

    def _absent(self) -> Decision:
        if self._others:
            return self._fetch(Step.SETTLE)
        if held := self._uncertain(Verb.CREATE, Step.SETTLE):
            return held
        if left := self._newest_left():
            return self._only_left(left, Step.FETCH)
        if parts := self._at(Presence.ARRIVING):
            return self._only_part(min(parts), Step.SETTLE)
        return self._settle()

    def _taken_back(self, other: str) -> Decision:
        """It was on its way to ``other``, which does not have it, and is to stay."""
        if self._others:
            return self._twice()
        if held := self._uncertain(Verb.MOVE, Step.SETTLE):
            return held
        box = self._boxes.get(other)
        if box is not None and box.presence is Presence.ARRIVING:
            return self._waiting(f"{other} still has a part of it, which it was fetching")
        return self._settle()

    def _brought_back(self) -> Decision:
        """What is here was left behind, or taken by another host."""
        if self._others:
            return self._fetch(Step.SETTLE)
        if held := self._uncertain(Verb.MOVE, Step.SETTLE):
            return held
        left = self._newest_left() or self._fleet.own
        return self._only_left(left, Step.SETTLE if left == self._fleet.own else Step.FETCH)

    def _arrived(self, source: str) -> Decision:
        box = self._boxes.get(source)
        offered = (
            box is not None and box.presence in (Presence.LEAVING, Presence.MOVED) and box.other == self._fleet.own
        )
        rivals = any(self._fleet.answers(other) for other in self._others - {source})
        if offered and self._fleet.answers(source) and not rivals:
            return self._settle() if self._whole else self._fetch_from(source)
        later = Step.SETTLE if self._whole else Step.REMAKE
        if self._others:
            return self._fetch(later)
        if held := self._uncertain(Verb.MOVE if self._whole else Verb.CREATE, later):
            return held
        if self._whole:
            return self._settle()
        if left := self._newest_left():
            return self._only_left(left, Step.FETCH)
        return self._only_part(self._fleet.own, Step.REMAKE)

    def _fetch(self, otherwise: Step) -> Decision:
        """From the one other host that has it. ``otherwise``: what an approval allows while that one is silent."""
        if len(self._others) > 1:
            return self._twice()
        source = next(iter(self._others))
        if not self._fleet.answers(source):
            return self._held_by_silence((source,), Verb.MOVE if self._own is not None else Verb.CREATE, otherwise)
        box = self._boxes[source]
        if box.presence is Presence.LEAVING and box.other != self._fleet.own and box.other in self._fleet.peers:
            taker = box.other
            if not self._fleet.answers(taker):
                return self._held_by_silence((taker,), Verb.MOVE, Step.FETCH, source)
            if (part := self._boxes.get(taker)) is not None and part.presence is Presence.ARRIVING:
                return self._waiting(f"{taker} still has a part of it, which it was fetching from {source}")
        return self._fetch_from(source)

    def _fetch_from(self, source: str) -> Decision:
        where = Place(Stand.MOVING, source, self._fleet.address(source, self._name), f"it comes from {source}")
        return Decision(where, Step.FETCH, source)

    def _uncertain(self, verb: Verb, then: Step) -> Decision | None:
        """Why nobody can tell who has it; None where everybody answers and all are known."""
        if self._silent:
            return self._held_by_silence(self._silent, verb, then)
        if not self._fleet.sure:
            return self._unread(verb, then)
        return self._struck_off(verb, then) if self._leads_astray() else None

    def _leads_astray(self) -> bool:
        """Whether it was last with a host that is not declared any more, as the jump account or a mark here tells.

        A host that has neither, because it is new, cannot know.
        """
        if self._own is not None and self._own.other and self._own.other not in self._fleet.hosts:
            return True
        here = addresses.inside(self._fleet.observed.host.subnet, self._door)
        return bool(self._door) and not here and not any(self._leads_to(host) for host in self._fleet.hosts)

    def _struck_off(self, verb: Verb, then: Step) -> Decision:
        hold = Hold(
            Suspicion.NOT_DECLARED,
            f"the last that is known here of {NAMES} leads to a host that is not declared, and that may have the data",
            "bring its Host manifest back",
            verb,
        )
        return self._held(hold, then)

    def _held_by_silence(self, hosts: tuple[str, ...], verb: Verb, then: Step, source: str = "") -> Decision:
        if self._fleet.unasked(hosts):
            return self._waiting(f"{', '.join(hosts)} will be asked in a moment")
        silent = self._fleet.why_silent(hosts)
        has = any(host in self._holders for host in hosts)
        words = f"has {NAMES} and does not answer" if has else f"does not answer and may have {NAMES}"
        remedy = f"bring {' and '.join(hosts)} back, or take the Host manifest away"
        if apart := [host for host in hosts if not takes_part(self._fleet.hosts[host])]:
            remedy = (
                f"write network.address and identity of {' and '.join(apart)} (containarium host manifest), {remedy}"
            )
        hold = Hold(Suspicion.PEER_SILENT, f"{silent} {words}", remedy, verb)
        return self._held(hold, then, source)

    def _unread(self, verb: Verb, then: Step) -> Decision:
        hold = Hold(
            Suspicion.MANIFEST_ERRORS,
            f"not all manifests load, and one of them may be that of the host that has {NAMES}",
            "mend the manifests that are named above",
            verb,
        )
        return self._held(hold, then)

    def _held(self, hold: Hold, then: Step, source: str = "") -> Decision:
        message = hold.message.replace(NAMES, self._name)
        return Decision(Place(Stand.WAITING, message=message), Step.KEEP, source, hold, then)

    def _only_left(self, host: str, then: Step) -> Decision:
        went = self._boxes[host].other
        message = f"{went} has {NAMES} no more; {host} has what was left there at a move, which is older"
        remedy = f"put the data back on {went}"
        if not self._placed:
            remedy += ", or say with placement.host where what is left is to run"
        hold = Hold(Suspicion.LEFT_BEHIND, message, remedy, Verb.MOVE)
        return self._held(hold, then, host if then is Step.FETCH else "")

    def _only_part(self, host: str, then: Step) -> Decision:
        source = self._boxes[host].other
        message = f"all there is of {NAMES} is a part of a copy on {host}, and {source} has the data no more"
        hold = Hold(Suspicion.PART_ONLY, message, f"put the data back on {source}", Verb.CREATE)
        return self._held(hold, then)

    def _waiting(self, message: str) -> Decision:
        return Decision(Place(Stand.WAITING, message=message), Step.KEEP)

    def _twice(self) -> Decision:
        who = " and ".join(f"{host} ({self._boxes[host].presence})" for host in sorted(self._holders))
        remedy = (
            "say with placement.host whose data counts, and delete the instance on the other"
            if self._placed
            else "say with placement.host whose data counts"
        )
        trouble = Trouble(f"{who} have it", remedy, "PlacedTwice")
        return Decision(Place(Stand.WAITING, message=trouble.message), Step.KEEP, refused=trouble)

    # It is to run on another host

    def _elsewhere(self, target: str) -> Decision:
        fleet, own = self._fleet, self._own
        there = self._boxes.get(target)
        lives = there is not None and there.presence is Presence.HERE
        confirmed = lives and fleet.answers(target)
        away = Place(Stand.ELSEWHERE, target, fleet.address(target, self._name), f"it lives on {target}")
        if not lives:
            away = self._not_there_yet(target)
        if own is None:
            return Decision(away)
        if own.presence is Presence.ARRIVING:
            return Decision(away, self._with_part())
        if own.presence is Presence.MOVED:
            return Decision(replace(away, stand=Stand.LEFT_BEHIND), Step.LEAVE_BEHIND if confirmed else Step.KEEP_DOWN)
        if confirmed:
            return Decision(replace(away, stand=Stand.LEFT_BEHIND), Step.LEAVE_BEHIND)
        stays = Place(Stand.LEAVING, fleet.own, own.address, f"it stays as it is until {target} has fetched it")
        return Decision(stays, Step.KEEP_DOWN if own.presence is Presence.LEAVING else Step.KEEP)

    def _not_there_yet(self, target: str) -> Place:
        """Where it is while its host does not have it: where it runs still, if anybody says so."""
        runs = [host for host in self._at(Presence.HERE) if host != self._fleet.own]
        if len(runs) == 1:
            address = self._fleet.address(runs[0], self._name)
            return Place(Stand.ELSEWHERE, runs[0], address, f"it lives on {runs[0]}, and is to move to {target}")
        return Place(Stand.ELSEWHERE, target, message=f"it is to live on {target}")

    def _with_part(self) -> Step:
        """What becomes of a copy that is not wanted here any more: it goes when somebody surely has the whole."""
        if any(self._fleet.answers(host) for host in self._others):
            return Step.DROP
        alone = self._whole and not self._others and not self._at(Presence.MOVED)
        known = self._fleet.sure and not self._silent and not self._leads_astray()
        return Step.ADOPT_COPY if alone and known else Step.KEEP_DOWN
