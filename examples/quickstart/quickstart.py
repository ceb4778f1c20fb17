"""From a bare machine to three people who log in, in steps that could each be done by hand.

``make quickstart`` runs it (again: nothing is left to do), ``make quickstart-clean`` removes all that it made.
"""

from __future__ import annotations

import argparse
import os
import platform
import pwd
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from containarium.cli.output import say
from containarium.host.lock import only_controller
from containarium.host.ownsshd import OwnSshd
from containarium.host.prepare import failure, prepare, receipt_path
from containarium.host.settings import HostSettings
from containarium.host.sshd import Sshd
from containarium.model.host import HostError
from containarium.model.manifest import Manifest
from containarium.model.marks import account_comment
from containarium.sources.directory import load

from .clean import LOCK_PATIENCE, clean
from .logins import Person, prove_all
from .receipt import Receipt
from .steps import QuickstartError, Step, containarium, step

EXAMPLES = Path(__file__).parents[1] / "manifests"
SCHEMAS = Path(__file__).parents[2] / "schemas"
COMMAND = Path("/usr/local/bin/containarium")
HERE = "127.0.0.1"
OWN_PORTS = range(2222, 2322)
APPLY_TIMEOUT = 2400


def main() -> int:
    """Parse, call; whatever goes wrong is one line."""
    parser = argparse.ArgumentParser(prog="quickstart", description=__doc__.splitlines()[0])
    parser.add_argument("--clean", action="store_true", help="remove all that the quickstart made")
    settings = HostSettings()
    receipt_file = settings.state / "quickstart" / "receipt.json"
    try:
        if parser.parse_args().clean:
            refuse_wrong_machine()
            clean(settings, Receipt.read(receipt_file))
        else:
            up(settings, receipt_file)
    except (QuickstartError, HostError) as error:
        sys.stderr.write(f"quickstart: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("quickstart: interrupted; run it again to go on, or make quickstart-clean\n")
        return 130
    return 0


def up(settings: HostSettings, receipt_file: Path) -> None:
    """All of it, in order."""
    refuse_wrong_machine()
    receipt = Receipt.read(receipt_file)
    examples = load(EXAMPLES).manifests
    refuse_what_is_there(settings, receipt, examples)
    with step("Preparing this host (Incus, storage, network, SSH)") as now:
        warnings = prepare_host(settings, receipt, now)
    for warning in warnings:
        say(f"               note: {warning}")
    with step("Declaring three people") as now:
        declare(settings, receipt, examples, now)
    with step("Making it so (containarium apply)") as now:
        now.note(containarium("apply", "--wait=60", timeout=APPLY_TIMEOUT, progress=now.progress)[-1])
    with step("Seeing that an SSH server serves the jump accounts") as now:
        port = ensure_sshd(settings, receipt, now)
    with step("Writing what each of them needs to log in") as now:
        receipt.make_folder(receipt.path.parent / "ssh", 0o700)
        declared = still_declared(settings, receipt)
        with ThreadPoolExecutor() as pool:
            people = list(pool.map(lambda person: equip(settings, receipt, person, port), declared))
        now.note(f"{people[0].config.parent}/")
    with step("Logging in as each of them, through the jump accounts") as now:
        proofs = prove_all(people)
        now.note("nothing else is open to a jump account")
    show(people, proofs)


def refuse_wrong_machine() -> None:
    """It changes accounts and installs packages, so it needs a Linux of which it is root."""
    if platform.system() != "Linux":
        raise QuickstartError("this needs Linux (Debian 12 or 13, or Ubuntu 24.04); a virtual machine is fine")
    if os.geteuid() != 0:
        raise QuickstartError("this needs root: sudo make quickstart")


def refuse_what_is_there(settings: HostSettings, receipt: Receipt, examples: tuple[Manifest, ...]) -> None:
    """Before anything is changed: nothing of somebody else's may be in the way."""
    strange = [p for p in _files_in(settings.manifests) if str(p) not in receipt.files]
    if strange and not receipt.files:
        raise QuickstartError(
            f"{settings.manifests} holds manifests ({strange[0].name}), so this host is in use already"
        )
    for account in pwd.getpwall():
        if account.pw_name in {e.name for e in examples} and account.pw_gecos != account_comment(account.pw_name):
            raise QuickstartError(
                f"this machine has an account {account.pw_name} of its own: rename {EXAMPLES / account.pw_name}.yaml"
                " and the name in it"
            )


def prepare_host(settings: HostSettings, receipt: Receipt, now: Step) -> list[str]:
    """Install and set up what is missing; return what will not work as it should.

    Where somebody prepared this host before, it stays prepared when the quickstart is undone.
    """
    if not receipt.exists:
        receipt.prepared = not receipt_path(settings).exists()
        receipt.claim(settings.state, besides={receipt.path.parent.name})
        receipt.make_folder(settings.state, 0o700)
        receipt.make_folder(settings.runtime)
        receipt.save()
    with only_controller(settings.runtime, LOCK_PATIENCE):
        steps = prepare(settings, install=True, progress=now.progress)
    if (why := failure(steps)) is not None:
        raise why
    changed = [done.name for done in steps if done.changed]
    now.note(", ".join(changed) if changed else "nothing to do")
    return [f"{done.name}: {done.warning}" for done in steps if done.warning]


def _files_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []


def declare(settings: HostSettings, receipt: Receipt, examples: tuple[Manifest, ...], now: Step) -> None:
    """Copy the manifests and put a new key of each person's beside them. What was copied once is the admin's."""
    keys = receipt.path.parent / "keys"
    new = 0
    for manifest in examples:
        if manifest.name in receipt.environments:
            continue
        source = Path(manifest.origin.file)
        key = make_key(receipt, keys / manifest.name, f"{manifest.name}@quickstart")
        receipt.write(settings.manifests / "keys" / f"{manifest.name}.pub", key.with_suffix(".pub").read_bytes())
        text = source.read_text().replace("../../schemas/", f"{SCHEMAS}/")
        receipt.write(settings.manifests / source.name, text.encode())
        receipt.environments.append(manifest.name)
        receipt.save()
        new += 1
    receipt.link(COMMAND, Path(sys.executable).with_name("containarium"))
    now.note(f"{new} manifests copied to {settings.manifests}" if new else f"as {settings.manifests} has them")


def still_declared(settings: HostSettings, receipt: Receipt) -> list[Manifest]:
    """Those of the three whom the admin has neither removed nor stopped since."""
    here = [m for m in load(settings.manifests).manifests if m.name in receipt.environments]
    running = [manifest for manifest in here if manifest.environment.spec.running]
    if not running:
        raise QuickstartError(
            f"none of the three is left in {settings.manifests}: make quickstart-clean, then try again"
        )
    return running


def make_key(receipt: Receipt, path: Path, comment: str) -> Path:
    """Make an ed25519 key pair, readable by root alone. A real user makes their own and keeps it."""
    receipt.make_folder(path.parent, 0o700)
    if not path.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=30)
    return path


def ensure_sshd(settings: HostSettings, receipt: Receipt, now: Step) -> int:
    """The port on which jump accounts are served: by this machine's sshd, or where none runs by one of our own."""
    for port in Sshd(settings).effective("root").get("port", "22").split():
        if answers(int(port)):
            now.note(f"this machine's own, on port {port}")
            return int(port)
    receipt.own_port = receipt.own_port or free_port()
    receipt.save()
    OwnSshd(settings).start(receipt.own_port)
    now.note(f"none runs here, so one of our own does, on {HERE} port {receipt.own_port}")
    return receipt.own_port


def free_port() -> int:
    """The first port from 2222 on that nobody listens on."""
    for port in OWN_PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HERE, port))
            return port
    raise QuickstartError(f"ports {OWN_PORTS.start} to {OWN_PORTS.stop - 1} are all taken: free one of them")


def answers(port: int) -> bool:
    """Whether an SSH server is behind a port of this machine."""
    try:
        with socket.create_connection((HERE, port), timeout=3) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def equip(settings: HostSettings, receipt: Receipt, manifest: Manifest, port: int) -> Person:
    """Write one person's ssh configuration, host keys included, as an admin would send it to them."""
    name, folder = manifest.name, receipt.path.parent
    config = folder / "ssh" / name
    where = [f"--jump-host={HERE}", f"--jump-port={port}", f"--key={folder / 'keys' / name}", f"--output={config}"]
    containarium("export", name, *where, timeout=60)
    if port == receipt.own_port:
        trust_own_sshd(config.with_name(f"{name}.known_hosts"), OwnSshd(settings).host_key(), port)
    return Person(name, config, f"{name}-jump", docker=manifest.environment.spec.docker)


def trust_own_sshd(known_hosts: Path, key: str, port: int) -> None:
    """Our own sshd has a host key of its own, which `containarium export` does not know."""
    server = f"[{HERE}]:{port}"
    lines = [line for line in known_hosts.read_text().splitlines() if not line.startswith(server)]
    known_hosts.write_text("\n".join([*lines, f"{server} {key}"]) + "\n")


def show(people: list[Person], proofs: list[str]) -> None:
    """Say what there is now and how to use it."""
    say("")
    for line in containarium("list", timeout=120):
        say(line)
    say("")
    say("Logged in through the jump accounts: " + "; ".join(proofs))
    first = people[0]
    say(f"\nThe ssh configuration of {first.name} ({first.config}):\n")
    say(first.config.read_text())
    say(f"Try it:            ssh -F {first.config} {first.name}")
    say("Change something:  edit a file in /etc/containarium/environments, then containarium plan, containarium apply")
    say("Undo all of it:    make quickstart-clean")


if __name__ == "__main__":
    sys.exit(main())
