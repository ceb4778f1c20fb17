"""From what runs on a host already to the manifest that describes it. Pure; whatever it had to guess it says.

It describes, and never improves: what a container has now goes into the manifest, and what a manifest always brings
(isolation, a pinned address) shows as a change in the plan that the command makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from containarium.model import fields, marks
from containarium.model.base import InvalidValueError
from containarium.model.environment import ADOPT_ANNOTATION, API_VERSION, KIND, MIN_DISK, MIN_MEMORY
from containarium.model.packing import plain, unpack
from containarium.model.quantity import Cpu, Duration, Size, parse_bytes
from containarium.plan.desired import AUTOSTART, NIC_DEVICE, PROTECTION, ROOT_DEVICE
from containarium.plan.inventory import SUFFIX, Keys, Seen, assigned

LABEL_PREFIX: Final = marks.PREFIX + "label."
"""Where the original keeps labels."""
_HASTY: Final = "its grace period of a second, for a deletion at once, is left out: the usual one counts again"
_TRUE = frozenset({"true", "1", "yes", "on"})
_GIB = 1 << 30
_NIC_OF_HAND = ("nictype", "parent")
_OS_REMOTES = {"ubuntu": "images:ubuntu/{release}", "debian": "images:debian/{release}"}
_DEBIAN = {"bookworm": "12", "trixie": "13", "bullseye": "11"}
_UBUNTU = {"noble": "24.04", "jammy": "22.04", "focal": "20.04"}


@dataclass(frozen=True, slots=True)
class Draft:
    """A manifest as plain data. ``notes`` are comments by dotted field (``spec.sshKeys.0``); ``remarks`` say what a
    manifest cannot say of it, or what has to be done first. ``data`` is empty where there can be no manifest.
    """

    name: str
    instance: str
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def drafts(seen: Sequence[Seen], declared_keys: Mapping[str, str], pool: str, bridge: str) -> tuple[Draft, ...]:
    """A draft of each instance. ``declared_keys`` maps the keys of present manifests to the environment that has them.

    A key stands for one person: one that several have (an admin's, planted everywhere) is left to the person.
    """
    keys = assigned(seen, declared_keys)
    return tuple(_draft(one, keys.get(one.instance, Keys()), pool, bridge) for one in seen)


@dataclass(slots=True)
class _Writing:
    notes: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def taken(self, path: str, text: str, parse: Callable[[str], object], otherwise: object, why: str) -> str:
        """The text, where a manifest can have it; else the other value, with a note."""
        try:
            return str(parse(text)) if text else self._guess(path, otherwise, why)
        except (InvalidValueError, ValueError):
            return self._guess(path, otherwise, f"guessed: a manifest cannot say {text!r}")

    def _guess(self, path: str, value: object, why: str) -> str:
        self.notes[path] = why
        return str(value)


def _draft(seen: Seen, keys: Keys, pool: str, bridge: str) -> Draft:
    if refusal := _no_manifest(seen):
        return Draft(seen.name, seen.instance, remarks=(refusal,))
    if seen.ours and (recorded := _recorded(seen)):
        remarks = (_HASTY,) if _unhurried(recorded) else ()
        return Draft(seen.name, seen.instance, recorded, {"": "from the container's own record"}, remarks)
    if not keys.lines:
        why = "no key that could go into a manifest was found: write its manifest yourself, with one in spec.sshKeys"
        return Draft(seen.name, seen.instance, remarks=(*keys.remarks, why))
    writing = _Writing(remarks=list(keys.remarks))
    spec: dict[str, Any] = {"image": _image(seen, writing), "resources": _resources(seen, writing)}
    spec["sshKeys"] = [line for line, _ in keys.lines]
    writing.notes |= {f"spec.sshKeys.{number}": note for number, (_, note) in enumerate(keys.lines) if note}
    spec |= _switches(seen, writing)
    if seen.address:
        spec["network"] = {"ipv4": seen.address}
        if not (seen.own_devices.get(NIC_DEVICE) or {}).get("ipv4.address"):
            writing.notes["spec.network.ipv4"] = "what it has now, from the DHCP server; from now on it is kept"
    spec |= _snapshots(seen, writing)
    writing.remarks += _obstacles(seen, pool, bridge)
    metadata: dict[str, Any] = {"name": seen.name}
    if labels := _labels(seen, writing):
        metadata["labels"] = labels
    if not seen.ours:
        metadata["annotations"] = {ADOPT_ANNOTATION: "true"}
        writing.notes[f"metadata.annotations.{ADOPT_ANNOTATION}"] = "takes the container over as it is"
    data = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
    return Draft(seen.name, seen.instance, data, writing.notes, tuple(writing.remarks))


def _no_manifest(seen: Seen) -> str:
    """Why there can be none; empty where there can."""
    if seen.kind != "container":
        return "it is a virtual machine, and an environment is a container"
    if not seen.instance.endswith(SUFFIX):
        new = seen.instance + SUFFIX
        return (
            f"an environment's container is called NAME{SUFFIX}: incus stop {seen.instance}, "
            f"incus rename {seen.instance} {new}, then import {seen.instance}"
        )
    try:
        fields.check_name(seen.name)
    except InvalidValueError as error:
        return f"{error.message}; {error.remedy}; then rename the container"
    owner = seen.own_config.get(marks.ENVIRONMENT, seen.name)
    return "" if owner == seen.name else f"it carries the mark of {owner}"


def _recorded(seen: Seen) -> dict[str, Any]:
    """The manifest that it carries itself; empty where there is none that is whole and its own."""
    try:
        environment = unpack(seen.own_config.get(marks.MANIFEST, ""))
    except ValueError:
        return {}
    return plain(environment) if environment.metadata.name == seen.name else {}


def _unhurried(data: dict[str, Any]) -> bool:
    """Take the grace period of a deletion by force out of a manifest. Returns whether it was there."""
    deletion = data["spec"].get("deletion") or {}
    if deletion.get("grace") != marks.AT_ONCE:
        return False
    del deletion["grace"]
    if not deletion:
        del data["spec"]["deletion"]
    return True


def _resources(seen: Seen, writing: _Writing) -> dict[str, Any]:
    config, root = seen.config, seen.devices.get(ROOT_DEVICE) or {}
    nothing = "guessed: it has no limit now"
    memory = Size.parse(f"{max(4, -(-2 * seen.memory_used // _GIB))}GiB")
    disk = Size.parse(f"{max(50, -(-2 * seen.disk_used // _GIB))}GiB")
    return {
        "cpu": _number(writing.taken("spec.resources.cpu", config.get("limits.cpu", ""), _cpu, Cpu.parse(4), nothing)),
        "memory": writing.taken(
            "spec.resources.memory", config.get("limits.memory", ""), _size(MIN_MEMORY), memory, nothing
        ),
        "disk": writing.taken("spec.resources.disk", root.get("size", ""), _size(MIN_DISK), disk, nothing),
        "processes": int(
            writing.taken("spec.resources.processes", config.get("limits.processes", ""), _processes, 4096, nothing)
        ),
    }


def _number(text: str) -> Any:
    return int(text) if text.isdecimal() else text


def _cpu(text: str) -> str:
    return str(Cpu.parse(_number(text)))


def _size(least: Size) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            size = Size.parse(text)
        except InvalidValueError:
            size = Size.parse(f"{parse_bytes(text)}B")  # Incus has spellings of its own
        if size.bytes < least.bytes:
            raise InvalidValueError(f"{size} is too little", f"write {least} or more")
        return str(size)

    return parse


def _processes(text: str) -> int:
    number = int(text)
    if not 64 <= number <= 4194304:
        raise InvalidValueError(f"{number} processes", "write 64 to 4194304")
    return number


def _switches(seen: Seen, writing: _Writing) -> dict[str, Any]:
    config = seen.config
    found: dict[str, Any] = {}
    if config.get("security.nesting", "").lower() in _TRUE:
        found["docker"] = True
        writing.notes["spec.docker"] = "guessed: nesting is allowed in it"
    autostart = config.get(AUTOSTART, "")
    if not autostart:
        writing.notes["spec.autostart"] = "guessed: it was left to Incus, which starts what ran before"
    found["autostart"] = autostart.lower() in _TRUE if autostart else seen.running
    if not seen.running:
        found["running"] = False
        writing.notes["spec.running"] = "it is stopped now, and stays so"
    if config.get(PROTECTION, "").lower() in _TRUE:
        found["deletion"] = {"protect": True}
    return found


def _snapshots(seen: Seen, writing: _Writing) -> dict[str, Any]:
    schedule, keep = seen.config.get("snapshots.schedule", ""), seen.config.get("snapshots.expiry", "")
    if not schedule:
        return {}
    try:
        fields.check_schedule(schedule)
    except InvalidValueError:
        writing.remarks.append(f"its schedule of snapshots ({schedule!r}) is none that a manifest can say; left out")
        return {}
    spelled = keep[:-1] + {"S": "s", "M": "m", "H": "h"}.get(keep[-1:], keep[-1:])
    writing.notes.pop("spec.snapshots.keep", None)
    kept = "30d"
    try:
        if keep[-1:] == "m":
            raise InvalidValueError("a month has no fixed length", "")
        kept = str(Duration.parse(spelled))
    except InvalidValueError:
        writing.notes["spec.snapshots.keep"] = f"guessed: now it is {keep!r}" if keep else "guessed: now it is for ever"
    return {"snapshots": {"schedule": schedule, "keep": kept}}


def _labels(seen: Seen, writing: _Writing) -> dict[str, str]:
    found = {}
    for key, value in sorted(seen.config.items()):
        if not key.startswith(LABEL_PREFIX):
            continue
        name = key.removeprefix(LABEL_PREFIX)
        try:
            found[fields.check_label_key(name)] = fields.check_label_value(value)
        except InvalidValueError:
            writing.remarks.append(f"its label {name!r} cannot be one in a manifest; left out")
    return found


def _image(seen: Seen, writing: _Writing) -> str:
    """What it was made from, as far as Incus remembers. It matters when it is made anew, and changes nothing now."""
    config = seen.config
    if recorded := config.get(marks.IMAGE):
        return recorded
    system, release = config.get("image.os", "").lower(), config.get("image.release", "").lower()
    release = {**_DEBIAN, **_UBUNTU}.get(release, config.get("image.version", "") or release)
    form = _OS_REMOTES.get(system)
    guess = form.format(release=release) if form and release else config.get("volatile.base_image", "")
    writing.notes["spec.image"] = "guessed; it counts when the environment is made anew, and changes nothing now"
    try:
        return fields.check_image(guess)
    except InvalidValueError:
        return "images:ubuntu/24.04"


def _obstacles(seen: Seen, pool: str, bridge: str) -> list[str]:
    """What a manifest does not say and would be changed, or refused, when the container is taken over."""
    found = []
    root = seen.devices.get(ROOT_DEVICE) or {}
    nic, own = seen.devices.get(NIC_DEVICE) or {}, seen.own_devices.get(NIC_DEVICE) or {}
    if root.get("pool", pool) != pool:
        found.append(f"its disk is on the pool {root['pool']}, and this host's is {pool}: move it first (incus move)")
    if by_hand := [key for key in _NIC_OF_HAND if key in own]:
        found.append(
            f"its network device says {' and '.join(by_hand)}: replace that first "
            f"(incus config device remove {seen.instance} {NIC_DEVICE})"
        )
    elif nic.get("network", bridge) != bridge:
        found.append(f"it is on the network {nic['network']}, and is moved to {bridge}")
    kinds = ("disk", "nic")
    others = [name for name, device in seen.devices.items() if name not in (ROOT_DEVICE, NIC_DEVICE)]
    more = [name for name in sorted(others) if seen.devices[name].get("type") in kinds]
    if more:
        found.append(f"further devices stay as they are, outside of its manifest: {', '.join(more)}")
    if seen.config.get("security.privileged", "").lower() in _TRUE:
        found.append("it is privileged: after it was taken over it is not, from its next start on")
    return found
