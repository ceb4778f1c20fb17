"""How an environment is on a host, as the marks on its instance say. What a host tells the others is made here."""

from __future__ import annotations

from collections.abc import Mapping

from containarium.model import marks
from containarium.model.fleet import Box, Presence
from containarium.model.observed import Instance, InstanceStatus, Observed
from containarium.plan.desired import NIC_DEVICE

WHOLE = ";whole"
"""Ends the mark of an arrival (``jump-1;whole``) once the copy is whole: FetchInstance writes it last of all."""

PASSING_MARKS = (marks.ARRIVING, marks.LEAVING, marks.MOVED)
"""What stands on an instance that is on its way. A copy brings its source's along."""


_LEFTOVER_KEYS = ("volatile.apply_template", "volatile.last_state.power")


def arriving(source: str, *, whole: bool = False) -> str:
    """The mark of an arrival from that host."""
    return source + WHOLE if whole else source


def is_whole(instance: Instance) -> bool:
    """Whether a copy that arrives is whole."""
    return instance.config.get(marks.ARRIVING, "").endswith(WHOLE)


def unstartable(instance: Instance) -> bool:
    """A row that a killed creation left behind: never finished, never started, and it never will be.

    Nobody can have data in it: it has no record of having been reached and no trace of a first start.
    """
    return (
        marks.APPLIED not in instance.config
        and marks.ARRIVING not in instance.config  # a copy of what may have data
        and instance.status is InstanceStatus.STOPPED
        and not any(key in instance.config for key in _LEFTOVER_KEYS)
    )


def box_of(name: str, instance: Instance) -> Box:
    """An instance of ours, as this host tells the others of it."""
    config = instance.config
    address = instance.devices.get(NIC_DEVICE, {}).get("ipv4.address", "")
    if came := config.get(marks.ARRIVING):
        return Box(name, Presence.ARRIVING, address, came.removesuffix(WHOLE))
    if went := config.get(marks.MOVED):
        return Box(name, Presence.MOVED, address, went)
    if goes := config.get(marks.LEAVING):
        return Box(name, Presence.LEAVING, address, goes)
    return Box(name, Presence.RETIRED if config.get(marks.RETIRED) else Presence.HERE, address)


def boxes(observed: Observed) -> Mapping[str, Box]:
    """Every environment that has an instance of ours here, by name: what this host answers to ``list``.

    A row that a killed creation left is nothing that anybody could have.
    """
    return {
        name: box_of(name, instance)
        for instance in observed.instances.values()
        if (name := instance.config.get(marks.ENVIRONMENT))
        and instance.name == marks.instance_name(name)
        and not unstartable(instance)
    }
