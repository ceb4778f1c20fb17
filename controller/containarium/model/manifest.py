"""A manifest as it was read: the environment, its keys, where it stands, and how whole the reading was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from containarium.model.environment import Environment
from containarium.model.hostmanifest import HostManifest
from containarium.model.problem import Origin, Problem
from containarium.model.sshkey import SSHKey


@dataclass(frozen=True, slots=True)
class Manifest:
    """``keys`` holds every key, key files read in, in the order of the manifest and without repeats."""

    environment: Environment
    keys: tuple[SSHKey, ...]
    origin: Origin

    @property
    def name(self) -> str:
        return self.environment.metadata.name


@dataclass(frozen=True, slots=True)
class DeclaredHost:
    """A Host manifest as it was read. ``admins`` maps each admin's account to its keys, key files read in."""

    manifest: HostManifest
    admins: Mapping[str, tuple[SSHKey, ...]]
    origin: Origin

    @property
    def name(self) -> str:
        return self.manifest.name


@dataclass(frozen=True, slots=True)
class Load:
    """Everything that a source holds.

    ``complete`` is true only when the folder was there, readable, not empty and read to its end. Broken files do not
    make it false, they are ``problems``; both keep anything from being retired or pruned.
    """

    manifests: tuple[Manifest, ...] = ()
    problems: tuple[Problem, ...] = ()
    complete: bool = False
    source: str = ""
    classes: tuple[str, ...] = ()
    """Names of the EnvironmentClasses that load, sorted. What they say is in the manifests already."""
    hosts: tuple[DeclaredHost, ...] = ()
    """The machines that there are, sorted by name; empty where no Host manifest says."""
    hosts_unsure: bool = False
    """Whether a problem may be with a Host manifest: then ``hosts`` may lack one that there is."""

    def host(self, name: str) -> DeclaredHost | None:
        """The Host manifest of this name."""
        return next((host for host in self.hosts if host.name == name), None)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a machine is declared to be: its own Host manifest, where there is one, and the whole fleet's.

    ``whole`` is false while any Host manifest does not load: who is missing in ``hosts`` may then still be one.
    """

    own: DeclaredHost | None = None
    hosts: tuple[DeclaredHost, ...] = ()
    whole: bool = True

    @property
    def digest(self) -> str:
        """The same for the same meaning, wherever in the files it stands."""
        hosts = {host.name: _meaning(host) for host in self.hosts}
        content = [_meaning(self.own) if self.own is not None else None, hosts, self.whole]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _meaning(host: DeclaredHost) -> list[object]:
    keys = {name: [key.line for key in keys] for name, keys in host.admins.items()}
    spec = host.manifest.spec
    # who says nothing about admins leaves them, and who says that there are none takes them away
    return [host.manifest.model_dump(mode="json", by_alias=True), keys, "admins" in spec.model_fields_set]
