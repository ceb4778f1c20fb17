"""Whether an environment may be handed to another host that asks for it. The host that has it decides, for itself."""

from __future__ import annotations

from containarium.model import marks
from containarium.model.fleet import Presence
from containarium.model.manifest import Load
from containarium.model.observed import Observed
from containarium.plan.fleet import short_name
from containarium.plan.presence import box_of
from containarium.plan.resolve import suspended_here


def why_not(load: Load, observed: Observed, name: str, caller: str) -> str:
    """Why ``caller`` does not get the environment from this host, in words; empty where it does.

    This host's own manifests have to place it there by name: one that has older or newer ones waits until both agree,
    and what nobody has placed is given away to nobody, not even what was left behind.
    """
    if load.host(caller) is None or load.host(short_name(observed.host)) is None:
        return f"{caller} and this host are not both declared"
    instance = observed.instances.get(marks.instance_name(name))
    if instance is None or instance.config.get(marks.ENVIRONMENT) != name:
        return f"{name} is not here"
    manifest = next((manifest for manifest in load.manifests if manifest.name == name), None)
    if manifest is None:
        return f"no manifest names {name}"
    if manifest.environment.metadata.suspended or name in suspended_here(observed):
        return f"{name} is suspended, or a command works on it"
    box = box_of(name, instance)
    if box.presence is Presence.ARRIVING:
        return f"{name} is not whole here"
    placement = manifest.environment.spec.placement
    if placement is None or placement.host != caller:
        return f"{name} is not placed on {caller}"
    return _why_taken(observed, name, caller)


def _why_taken(observed: Observed, name: str, caller: str) -> str:
    """Why it is another host's already, as far as the others' answers of now are in ``observed``.

    Who has a part of a copy may still make it the environment; it throws that away first.
    """
    for host, peer in sorted(observed.peers.items()):
        box = peer.boxes.get(name) if peer.answers and peer.boxes is not None and host != caller else None
        if box is None:
            continue
        if box.presence in (Presence.HERE, Presence.RETIRED):
            return f"{host} has {name}"
        if box.presence is Presence.ARRIVING and box.other == short_name(observed.host):
            return f"{host} still has a part of {name}, which it was fetching"
    return ""
