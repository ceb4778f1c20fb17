"""Commands that change something, carried out on a server: they go into its manifests; their steps are told here."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from containarium.api.v1 import container_pb2, controller_pb2
from containarium.cli import errors
from containarium.cli.errors import CommandError
from containarium.cli.output import Format, complain, count, say, say_fields, say_json
from containarium.cli.remote_look import TIMEOUT, block, write
from containarium.cli.stages import Stages
from containarium.model.host import HostError

if TYPE_CHECKING:
    from containarium.api.client import Client
    from containarium.cli.remote import Backend
    from containarium.cli.wanted import Wanted

_AT_ONCE = 8
"""Environments that are asked for at the same time."""
_Progress = controller_pb2.Progress


def create(
    backend: Backend, names: list[str] | None, ssh_key: list[str] | None, cpu: str | None,
    memory: str | None, disk: str | None, image: str | None, docker: bool | None, packages: list[str] | None,
    labels: list[str] | None, autostart: bool | None, expires: str | None, class_: str | None, host: str | None,
    source: Path | None, jump_host: str | None, jump_port: int | None, key: str, export: Path | None, wait: float,
) -> None:  # fmt: skip
    """As ``create``: tables and key files are read on this computer."""
    from containarium.cli.create import _wanted
    from containarium.cli.export import Way
    from containarium.cli.wanted import Wanted, words

    common = Wanted(
        key=tuple(ssh_key or ()), cpu=cpu, memory=memory, disk=disk, image=image, docker=docker,
        packages=words(packages or ()), labels=words(labels or ()), autostart=autostart, expires=expires,
        class_=class_, host=host,
    )  # fmt: skip
    wanted = [one.filled(common) for one in _wanted(names or [], source)]
    documents = {one.name: _document(one, source) for one in wanted}
    told = Stages(say, frozenset(documents))

    def ask(client: Client, name: str) -> Iterator[Any]:
        request = controller_pb2.CreateEnvironmentRequest(manifest=json.dumps(documents[name]))
        told.begun(name, f"sent to {backend.server}")
        return client.follow("CreateEnvironment", request, wait or TIMEOUT)

    with backend.connected() as client:
        there = _each(client, list(documents), ask, told)
        code = errors.OK if len(there) == len(documents) else errors.FAILED
        for name in there:
            told.reached(name)
        for name in there:
            code = max(code, _show(client, name, Way(jump_host, jump_port, key), export))
    if len(documents) > 1:
        say(f"{count(len(there), 'environment')} of {len(documents)} created.", "red" if code else "green")
    raise typer.Exit(code)


def _document(wanted: Wanted, source: Path | None) -> dict[str, Any]:
    from containarium.cli.wanted import document, key_sources

    if not wanted.key:
        raise CommandError(
            f"{wanted.row + ': ' if wanted.row else ''}{wanted.name} has no key, so nobody could log in",
            "give --ssh-key with the person's public key or its file",
        )
    beside = source.parent if source is not None and wanted.row else Path()
    # No folder of manifests here that a key file could lie in: keys are sent as their lines.
    data = document(wanted, key_sources(replace(wanted), Path("/nonexistent"), beside))
    return {part: _filled(value) if isinstance(value, dict) else value for part, value in data.items()}


def _filled(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value not in ({}, [])}


def _show(client: Client, name: str, way: Any, folder: Path | None) -> int:
    """What there is now, and the connection block. Returns the exit code."""
    data = json.loads(client.ask("GetEnvironment", controller_pb2.GetEnvironmentRequest(name=name), TIMEOUT).document)
    say("")
    say_fields(
        [
            ("Name", data["container"]),
            ("User", name),
            ("IP", data["ip"] or "-"),
            ("Disk", data["resources"]["disk"] or "-"),
            ("Autostart", "yes" if data["autostart"] else "no"),
            (
                "Jump account",
                f"{name} (keys only, to this container only)"
                if data["jump_account"]["state"] != "missing"
                else "missing",
            ),
            ("SSH", f"ssh {name}"),
        ]
    )
    try:
        if folder is None:
            say(f"\n# What {name} puts into ~/.ssh/config; then: ssh {name}\n{block(client, name, way)}")
            return errors.OK
        from containarium.host.files import make_folder

        make_folder(folder, 0o700)
        write(client, name, way, folder / f"{name}.ssh")
        say(f"Written to {folder / name}.ssh. Log in with: ssh -F {name}.ssh {name}")
    except (CommandError, HostError) as error:
        complain(f"{name}: {error}", "red")
        return errors.FAILED
    return errors.OK


def delete(backend: Backend, names: list[str], force: bool, backup: bool | None, approve: str, wait: float) -> None:
    """As ``delete``."""
    told, unique = Stages(say), list(dict.fromkeys(names))
    saved = force if backup is None else backup
    request = controller_pb2.DeleteEnvironmentRequest(names=unique, force=force, backup=saved, approve=approve)
    well = False
    with backend.connected() as client:
        for step in client.follow("DeleteEnvironment", request, wait or TIMEOUT):
            well = _tell(told, step)
        for name in unique if well else ():
            say(_gone(client, name, force=force, saved=saved), "green")
    raise typer.Exit(errors.OK if well else errors.FAILED)


def _gone(client: Client, name: str, *, force: bool, saved: bool) -> str:
    if force:
        return f"{name}: deleted{'; its backup is on the host' if saved else ', for good'}."
    try:
        found = client.ask("GetEnvironment", controller_pb2.GetEnvironmentRequest(name=name), TIMEOUT)
    except HostError:
        return f"{name}: gone. It had no container there, and so no data."
    until = json.loads(found.document)["retired_until"]
    kept = f"The data is kept until {until}" if until else "The data is kept for ever"
    return f"{name}: nobody gets in any more. {kept}. Undo there: containarium undelete {name}"


def resize(backend: Backend, name: str, cpu: str | None, memory: str | None, disk: str | None, wait: float) -> None:
    """As ``resize``."""
    asked = {"cpu": cpu, "memory": memory, "disk": disk}
    if not any(asked.values()):
        raise CommandError(
            "there is nothing to change", f"containarium resize {name} --cpu 4 --memory 8GiB --disk 50GiB"
        )
    request = container_pb2.ResizeContainerRequest(username=name, cpu=cpu, memory=memory, disk=disk)
    with backend.connected() as client:
        before = client.ask("GetContainer", container_pb2.GetContainerRequest(username=name), TIMEOUT, original=True)
        after = client.ask("ResizeContainer", request, wait or TIMEOUT, original=True)
    old, new = before.container.resources, after.container.resources
    changed = [
        f"{field} {getattr(old, field)} -> {getattr(new, field)}"
        for field in asked
        if getattr(old, field) != getattr(new, field)
    ]
    say(f"{name}: {', '.join(changed) or 'has that already'}", "green")


def start(backend: Backend, names: list[str], wait: float) -> None:
    """As ``start``."""
    _turn(backend, names, "StartContainer", container_pb2.StartContainerRequest, wait, "running")


def stop(backend: Backend, names: list[str], wait: float) -> None:
    """As ``stop``."""
    _turn(backend, names, "StopContainer", container_pb2.StopContainerRequest, wait, "stopped")


def _turn(backend: Backend, names: list[str], call: str, request: Callable[..., Any], wait: float, state: str) -> None:
    with backend.connected() as client:
        for name in dict.fromkeys(names):
            client.ask(call, request(username=name), wait or TIMEOUT, original=True)
            say(f"{name}: {state}", "green")


def key_add(backend: Backend, name: str, keys: list[str], wait: float) -> None:
    """As ``key add``; files are read on this computer."""
    from containarium.cli.key import _given
    from containarium.model.sshkey import SSHKey

    with backend.connected() as client:
        for line in (line for text in keys for line in _given(text)):
            request = container_pb2.AddSSHKeyRequest(username=name, ssh_public_key=line)
            client.ask("AddSSHKey", request, wait or TIMEOUT, original=True)
            say(f"{name}: added {SSHKey.parse(line).fingerprint}", "green")


def key_remove(backend: Backend, name: str, keys: list[str], wait: float) -> None:
    """As ``key remove``."""
    from containarium.cli.key import _chosen
    from containarium.model.sshkey import SSHKey

    with backend.connected() as client:
        request = container_pb2.GetContainerRequest(username=name)
        found = client.ask("GetContainer", request, TIMEOUT, original=True).container.ssh_keys
        known = tuple(SSHKey.parse(line) for line in found)
        for key in (key for text in keys for key in _chosen(name, known, text)):
            asked = container_pb2.RemoveSSHKeyRequest(username=name, ssh_public_key=key.line)
            left = client.ask("RemoveSSHKey", asked, wait or TIMEOUT, original=True).total_keys
            say(f"{name}: withdrawn {key.fingerprint}; {count(left, 'key')} left", "green")


def apply(backend: Backend, output: Format, only: list[str] | None, approve: list[str] | None, restart: bool) -> None:
    """As ``apply``: the server's controller does it."""
    told, failures, end = Stages(say), [], None
    request = controller_pb2.ApplyRequest(only=only or (), approve=approve or (), restart=restart)
    quiet = output is Format.JSON
    with backend.connected() as client:
        for step in client.follow("Apply", request, 3600.0):
            if step.state == _Progress.STATE_END:
                end = step
            elif step.state == _Progress.STATE_FAILED:
                failures.append({"environment": step.environment, "message": step.message})
            if not quiet:
                _tell(told, step)
    code = end.exit_code if end is not None else errors.FAILED
    summary = end.message if end is not None else ""
    if quiet:
        say_json({"summary": summary, "converged": code == errors.OK, "failures": failures})
    else:
        say(summary, "red" if code else "green")
    raise typer.Exit(code)


def approve(backend: Backend, digest: str) -> None:
    """As ``approve``."""
    with backend.connected() as client:
        found = client.ask("Approve", controller_pb2.ApproveRequest(digest=digest), TIMEOUT)
    say(f"Approved: {', '.join(found.environments)} may {found.verb}.")


def suspend(backend: Backend, name: str) -> None:
    """As ``suspend``."""
    with backend.connected() as client:
        changed = client.ask("Suspend", controller_pb2.SuspendRequest(name=name), TIMEOUT).changed
    say(f"{name} is left alone from now on." if changed else f"{name} is suspended already.")


def resume(backend: Backend, name: str) -> None:
    """As ``resume``."""
    with backend.connected() as client:
        changed = client.ask("Resume", controller_pb2.ResumeRequest(name=name), TIMEOUT).changed
    no = f"{name} is not suspended on that host; its manifest may say so (containarium.dev/suspend)."
    say(f"{name} is looked after again." if changed else no)


def _each(client: Client, names: list[str], ask: Callable[[Client, str], Iterator[Any]], told: Stages) -> list[str]:
    """Ask for each, several at once, and tell the steps. Returns those that got there, in their order."""
    lock = threading.Lock()

    def one(name: str) -> bool:
        well = False
        try:
            for step in ask(client, name):
                with lock:
                    well = _tell(told, step)
        except HostError as error:
            with lock:
                complain(f"{name}: {error}", "red")
            return False
        return well

    with ThreadPoolExecutor(min(_AT_ONCE, len(names)), thread_name_prefix="ask") as pool:
        return [name for name, well in zip(names, pool.map(one, names), strict=True) if well]


def _tell(told: Stages, step: Any) -> bool:
    """Tell a step. Returns whether it is an end, and a good one."""
    name = step.environment
    if step.state == _Progress.STATE_FAILED:
        complain(f"{name}: {step.message}", "red")
    elif step.state == _Progress.STATE_DONE:
        if step.message:
            say(f"{name}: {step.message}")
    elif step.state == _Progress.STATE_WORKING:
        if step.action:
            told.saw(name, step.action, step.message)
        else:
            told.waits(name, step.message)
    return bool(step.state == _Progress.STATE_END and not step.exit_code)
