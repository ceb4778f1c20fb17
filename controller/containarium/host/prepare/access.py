"""Who gets in: the jump accounts' group, folders, the drop-in of sshd, fail2ban's jail, and the host shut to guests."""

from __future__ import annotations

import re
from pathlib import Path

from containarium.host import probekey
from containarium.host.accounts import Accounts
from containarium.host.files import make_folder
from containarium.host.firewall import UNIT, Firewall, firewall_file, rules, units
from containarium.host.prepare.network import subnet_of
from containarium.host.prepare.steps import Context, Step
from containarium.host.sshd import SSHD, Sshd
from containarium.model.host import HostError
from containarium.model.marks import ADMIN_GROUP, JUMP_GROUP

_JAIL = "fail2ban/jail.d/containarium.local"
UNITS = Path("/etc/systemd/system")


def group(context: Context) -> Step:
    """The primary group of every jump account; sshd's drop-in matches on it."""
    changed = Accounts(context.settings, context.run).ensure_group(context.progress)
    if changed:
        context.receipt.add("group", JUMP_GROUP)
    return Step("group", changed, JUMP_GROUP)


def admins(context: Context) -> Step:
    """The group of those who may use the API's socket; who is in it is the admin's to say."""
    changed = Accounts(context.settings, context.run).ensure_admins(context.progress)
    if changed:
        context.receipt.add("group", ADMIN_GROUP)
    return Step("admins", changed, ADMIN_GROUP)


def folders(context: Context) -> Step:
    """Where manifests, keys and state are. A folder that exists keeps its mode and owner; doctor judges them."""
    settings = context.settings
    made = []
    wanted = (
        (settings.state, 0o700),  # first: the receipt goes there
        (settings.etc / "containarium", 0o755),
        (settings.manifests, 0o755),
        (settings.jump_keys.parent, 0o755),
        (settings.jump_keys, 0o755),
        (settings.runtime, 0o755),
    )
    for folder, mode in wanted:
        new = not folder.exists()
        if make_folder(folder, mode) or new:
            context.receipt.add("folder", str(folder))
            made.append(str(folder))
    return Step("folders", bool(made), f"made {', '.join(made)}" if made else "there")


def probe_key(context: Context) -> Step:
    """The key with which the controller itself tries the way in, see host/probe.py."""
    path = context.settings.probe_key
    new = not path.parent.exists()
    if new:  # noted first: whatever a kill leaves half-made is taken back too
        context.receipt.add("probe key", str(path))
    changed = probekey.ensure(context.settings, context.run)
    return Step("probe key", changed, str(path))


def sshd(context: Context) -> Step:
    """The drop-in that leaves jump accounts one thing to do."""
    path = context.settings.sshd_drop_in
    new = not path.exists()
    changed = Sshd(context.settings, context.run).install(context.progress)
    if changed and new:
        context.receipt.add("sshd drop-in", str(path))
    return Step("sshd", changed, str(path))


def firewall(context: Context) -> Step:
    """Put the tables in force, and see to it that it is so after every boot and every flush by nftables.service."""
    wall = Firewall(context.settings, context.run)
    standing = wall.in_force()
    changed = context.write(firewall_file(context.settings), rules(context.settings, subnet_of(context)))
    if not standing or changed:
        context.progress("shutting the host's services to guests")
        context.receipt.add("nftables table", "containarium")
        wall.apply()
    warning = ""
    if context.systemd:
        written = [context.write(UNITS / name, text) for name, text in units(context.settings).items()]
        if any(written):
            context.run(["systemctl", "daemon-reload"], timeout=60)
            changed = True
        if context.run(["systemctl", "is-enabled", "--quiet", UNIT], timeout=30, check=False).code != 0:
            context.run(["systemctl", "enable", "--now", UNIT], timeout=60)
            context.receipt.add("unit", UNIT)
            changed = True
    else:
        warning = "without systemd nothing loads it at the next boot: run this again then"
    return Step("firewall", changed or not standing, f"table inet containarium on {context.settings.bridge}", warning)


def fail2ban(context: Context) -> Step:
    """Where fail2ban is installed: a jail for sshd, on the ports that sshd really uses, and the service running."""
    settings = context.settings
    if not (settings.etc / "fail2ban").is_dir():
        return Step("fail2ban", False, "not installed")
    changed = context.write(
        settings.etc / _JAIL, jail(_ports(context), journal=context.systemd and _reads_journal(context))
    )
    try:
        if context.systemd:
            active = context.run(["systemctl", "is-active", "--quiet", "fail2ban"], timeout=30, check=False).code == 0
            if context.run(["systemctl", "is-enabled", "--quiet", "fail2ban"], timeout=30, check=False).code != 0:
                context.run(["systemctl", "enable", "fail2ban"], timeout=60)
                context.receipt.add("unit", "fail2ban.service")
            if not active or changed:
                context.run(["systemctl", "restart" if not active else "reload", "fail2ban"], timeout=60)
                changed = True
        elif changed and context.run(["fail2ban-client", "ping"], timeout=30, check=False).code == 0:
            context.run(["fail2ban-client", "reload"], timeout=60)
    except HostError as error:
        return Step("fail2ban", changed, warning=f"fail2ban does not run: {error}")
    return Step("fail2ban", changed, str(settings.etc / _JAIL))


def jail(ports: str, *, journal: bool) -> str:
    """fail2ban's jail for sshd. Ports are numbers: where /etc/services is missing, names ban nobody, silently."""
    backend = "systemd" if journal else "auto"
    return (
        "# Written by containarium.\n"
        "[DEFAULT]\n"
        "banaction = nftables[type=multiport]\n"
        "banaction_allports = nftables[type=allports]\n\n"
        "[sshd]\n"
        "enabled = true\n"
        f"port = {ports}\n"
        f"backend = {backend}\n"
        "maxretry = 5\n"
        "findtime = 600\n"
        "bantime = 3600\n"
    )


def _ports(context: Context) -> str:
    shown = context.run([SSHD, "-T"], timeout=30, check=False)
    return ",".join(sorted(set(re.findall(r"(?m)^port (\d+)$", shown.out)), key=int)) or "22"


def _reads_journal(context: Context) -> bool:
    """fail2ban reads the journal through a Python module that is a package of its own."""
    looked = context.run(["/usr/bin/python3", "-c", "import systemd.journal"], timeout=30, check=False)
    return looked.code == 0
