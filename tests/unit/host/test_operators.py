"""Admins: made, adopted, refused, withdrawn; and their keys, past whatever stands in their homes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from containarium.host import homekeys
from containarium.host.command import Completed
from containarium.host.homekeys import Home
from containarium.host.incus import Incus
from containarium.host.prepare import operators, server, vault, wayin
from containarium.host.prepare.receipt import Receipt
from containarium.host.prepare.steps import Context
from containarium.host.prepare.undo import undo
from containarium.model.host import TerminalError, silent
from containarium.model.manifest import Declaration
from tests.builders import public_key
from tests.unit.host.etcfiles import FakeRun, settings, write_etc
from tests.unit.host.hosts import admin, declare


class FakeTools(FakeRun):
    """useradd that writes a line and a home; visudo that accepts."""

    def __init__(self, root: Path, visudo: int = 0) -> None:
        super().__init__(self._run)
        self._root, self._visudo = root, visudo

    def _run(self, args: list[str]) -> Completed:
        if args[0] == "useradd":
            add(self._root, args[-1], operators.COMMENT)
        return Completed(self._visudo if args[0] == "visudo" else 0, "", "bad rule")


def add(
    root: Path, name: str, comment: str = "", groups: str = "", *, shell: str = "/bin/bash", field: str = "*"
) -> Path:
    """An account of this process's own user, with a home below the test's folder."""
    home = root / "home" / name
    home.mkdir(parents=True)
    with (root / "etc" / "passwd").open("a") as passwd:
        passwd.write(f"{name}:x:{os.getuid()}:{os.getgid()}:{comment}:{home}:{shell}\n")
    with (root / "etc" / "shadow").open("a") as shadow:
        shadow.write(f"{name}:{field}:19000:0:99999:7:::\n")
    if groups:
        with (root / "etc" / "group").open("a") as group:
            group.write(f"{groups}:x:4000:{name}\n")
    return home


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a folder with account files, and sudo installed."""
    write_etc(tmp_path)
    (tmp_path / "etc" / "sudoers.d").mkdir()
    return tmp_path


def _context(root: Path, declaration: Declaration, run: FakeRun | None = None) -> Context:
    host = settings(root)
    receipt = Receipt(root / "state" / "prepared.json")
    return Context(host, run or FakeTools(root), Incus(host), receipt, silent, False, declaration)


def _roots(root: Path, line: str) -> Home:
    """A home of root's with one line in its file of keys."""
    return _with_keys(root / "roots", line)


def _with_keys(home: Path, line: str) -> Home:
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "authorized_keys").write_text(f"{line}\n")
    return Home(home, os.getuid(), os.getgid())


def _sudoers(root: Path) -> list[str]:
    file = root / "etc" / "sudoers.d" / "50-containarium"
    return [line for line in file.read_text().splitlines() if not line.startswith("#")] if file.exists() else []


def test_without_a_manifest_nobody_is_touched(root: Path) -> None:
    run = FakeTools(root)
    assert not operators.admin_accounts(_context(root, Declaration(), run)).changed
    assert run.commands == []


def test_who_is_missing_is_made_with_keys_and_sudo(root: Path) -> None:
    context = _context(root, declare(root, admins=[admin("ops")]))
    assert operators.admin_accounts(context).changed
    assert _sudoers(root) == ["ops ALL=(ALL:ALL) NOPASSWD: ALL"]
    assert wayin.block(context.settings, "ops") == (public_key("ops"),)
    file = root / "home" / "ops" / ".ssh" / "authorized_keys"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert not operators.admin_accounts(context).changed


def test_lines_of_their_own_stay(root: Path) -> None:
    own = f"{public_key('laptop')}\n"
    (add(root, "ops", operators.COMMENT) / ".ssh").mkdir(mode=0o700)
    file = root / "home" / "ops" / ".ssh" / "authorized_keys"
    file.write_text(own)
    operators.admin_accounts(_context(root, declare(root, admins=[admin("ops")])))
    assert file.read_text().startswith(own)
    operators.admin_accounts(_context(root, declare(root, admins=[])), root=_roots(root, public_key("root")))
    assert file.read_text() == own


def test_whoever_is_not_named_any_more_loses_keys_and_sudo_and_keeps_the_account(root: Path) -> None:
    operators.admin_accounts(_context(root, declare(root, admins=[admin("ops"), admin("vera")])))
    step = operators.admin_accounts(_context(root, declare(root, admins=[admin("vera")])))
    assert "keys of ops withdrawn" in step.detail
    assert _sudoers(root) == ["vera ALL=(ALL:ALL) NOPASSWD: ALL"]
    assert (root / "home" / "ops" / ".ssh" / "authorized_keys").read_text() == ""
    assert "ops:" in (root / "etc" / "passwd").read_text()


def test_an_account_that_has_sudo_is_adopted(root: Path) -> None:
    add(root, "zoe", "Zoe", "google-sudoers")
    operators.admin_accounts(_context(root, declare(root, admins=[admin("zoe")])))
    assert _sudoers(root) == ["zoe ALL=(ALL:ALL) NOPASSWD: ALL"]


def test_somebody_else_s_account_is_refused_and_the_others_are_served(root: Path) -> None:
    home = add(root, "bob", "Bob")
    context = _context(root, declare(root, admins=[admin("bob"), admin("ops")]))
    with pytest.raises(TerminalError, match="bob was there before") as refused:
        operators.admin_accounts(context)
    assert refused.value.reason == "AdminRefused"
    assert _sudoers(root) == ["ops ALL=(ALL:ALL) NOPASSWD: ALL"]
    assert list(home.iterdir()) == []


def test_rules_that_visudo_refuses_are_not_written(root: Path) -> None:
    with pytest.raises(TerminalError) as refused:
        operators.admin_accounts(_context(root, declare(root, admins=[admin("ops")]), FakeTools(root, visudo=1)))
    assert refused.value.reason == "SudoersRefused"
    assert _sudoers(root) == []


def test_an_undone_preparation_leaves_the_account_without_our_keys(root: Path) -> None:
    context = _context(root, declare(root, admins=[admin("ops")]))
    operators.admin_accounts(context)
    assert [step.warning for step in undo(context) if step.warning] == []
    assert _sudoers(root) == []
    assert wayin.block(context.settings, "ops") is None
    assert "ops:" in (root / "etc" / "passwd").read_text()


# -- their homes


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Give an empty home of this process's own user."""
    return Home(tmp_path, os.getuid(), os.getgid())


def test_a_link_in_place_of_the_folder_is_not_followed(home: Home, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("root")
    (home.path / ".ssh").symlink_to(elsewhere)
    with pytest.raises(TerminalError) as refused:
        homekeys.write(home, ("ssh-ed25519 AAAA",))
    assert refused.value.reason == "OddKeysFile"
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder", "large"])
def test_what_is_no_plain_file_of_theirs_is_left(home: Home, tmp_path: Path, kind: str) -> None:
    (home.path / ".ssh").mkdir()
    file, other = home.path / ".ssh" / "authorized_keys", tmp_path / "secret"
    other.write_text("secret\n")
    if kind == "link":
        file.symlink_to(other)
    elif kind == "hard link":
        file.hardlink_to(other)
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"#" * (300 << 10))
    with pytest.raises(TerminalError) as refused:
        homekeys.write(home, ("ssh-ed25519 AAAA",))
    assert refused.value.reason == "OddKeysFile"
    assert other.read_text() == "secret\n"


def test_what_was_left_half_written_is_replaced_and_not_followed(home: Home, tmp_path: Path) -> None:
    (home.path / ".ssh").mkdir()
    (home.path / ".ssh" / ".authorized_keys.containarium").symlink_to(tmp_path / "target")
    assert homekeys.write(home, ("ssh-ed25519 AAAA",))
    assert not (tmp_path / "target").exists()
    assert homekeys.holds(home, ("ssh-ed25519 AAAA",))


# -- sshd for everybody


def test_passwords_stay_while_nobody_would_get_in_without_one(root: Path, tmp_path: Path) -> None:
    context = _context(root, declare(root))
    nobody = Home(tmp_path / "nobody", 0, 0)
    assert server.directives(context.settings, nobody) == {"MaxAuthTries": "3"}


def test_root_keeps_its_key_until_there_is_an_admin(root: Path) -> None:
    context = _context(root, declare(root, admins=[admin("ops")]))
    home = root / "roots"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "authorized_keys").write_text("# none yet\n")
    operators.admin_accounts(context)
    found = server.directives(context.settings, Home(home, os.getuid(), os.getgid()))
    assert (found["PasswordAuthentication"], found["PermitRootLogin"]) == ("no", "no")


def test_with_a_key_of_root_s_alone_root_gets_in_by_key(root: Path) -> None:
    home = root / "roots"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "authorized_keys").write_text("ssh-ed25519 AAAA root\n")
    owner = Home(home, os.getuid(), os.getgid())
    found = server.directives(_context(root, declare(root)).settings, owner)
    assert (found["PasswordAuthentication"], found["PermitRootLogin"]) == ("no", "prohibit-password")


CLOUD = 'no-pty,command="echo \'Please login as the user \\"debian\\".\';sleep 10" ssh-ed25519 AAAA'


@pytest.mark.parametrize(
    ("line", "opens"),
    [
        ("ssh-ed25519 AAAA root", True),
        ("  ecdsa-sha2-nistp256 AAAA", True),
        ('from="10.0.0.0/8, !10.0.0.1",no-pty ssh-rsa AAAA command=harmless', True),
        ('environment="X=,command=y" sk-ssh-ed25519@openssh.com AAAA', True),
        (CLOUD, False),
        ('restrict,Command="true" ssh-ed25519 AAAA', False),
        ("# ssh-ed25519 AAAA", False),
        ("nonsense", False),
    ],
)
def test_a_forced_command_is_no_way_in(home: Home, line: str, opens: bool) -> None:
    (home.path / ".ssh").mkdir()
    (home.path / ".ssh" / "authorized_keys").write_text(f"{line}\n")
    assert homekeys.opens(home) == opens


@pytest.mark.parametrize(
    ("account", "line", "rule", "shut"),
    [
        ({"field": "$y$hash"}, "ssh-ed25519 AAAA", "", True),
        ({}, "ssh-ed25519 AAAA", "%sudoers ALL=(ALL:ALL) ALL", False),
        ({}, "ssh-ed25519 AAAA", "zoe ALL=(ALL) NOPASSWD:ALL", True),
        ({}, "ssh-ed25519 AAAA", "%google-sudoers ALL=(ALL:ALL) NOPASSWD:ALL", True),
        ({"field": "$y$hash", "shell": "/usr/sbin/nologin"}, "ssh-ed25519 AAAA", "", False),
        ({"field": "$y$hash"}, CLOUD, "", False),
    ],
)
def test_root_is_not_shut_out_for_an_account_that_is_not_ours(
    root: Path, account: dict[str, str], line: str, rule: str, shut: bool
) -> None:
    _with_keys(add(root, "zoe", "Zoe", "google-sudoers", **account), line)
    (root / "etc" / "sudoers.d" / "90-cloud").write_text(f"{rule}\n")
    found = server.directives(settings(root), _roots(root, CLOUD))
    assert found.get("PermitRootLogin") == ("prohibit-password" if shut else None)
    assert ("PasswordAuthentication" in found) == shut


def test_passwords_that_are_shut_are_not_allowed_again_by_themselves(root: Path) -> None:
    context = _context(root, declare(root))
    server.drop_in(context.settings).parent.mkdir(parents=True)
    server.drop_in(context.settings).write_text("PasswordAuthentication no\nPermitRootLogin no\n")
    found = server.directives(context.settings, _roots(root, "# none"))
    assert (found["PasswordAuthentication"], found["PermitRootLogin"]) == ("no", "prohibit-password")
    (root / "etc" / "ssh" / "sshd_config").write_text(f"Include {root}/etc/ssh/sshd_config.d/*.conf\n")
    assert "nobody is known to get in" in server.sshd_server(context, Home(root / "none", 0, 0)).warning


# -- who stays


def test_a_manifest_that_says_nothing_about_admins_leaves_them(root: Path) -> None:
    operators.admin_accounts(_context(root, declare(root, admins=[admin("ops")])))
    context = _context(root, declare(root))
    assert not operators.admin_accounts(context, root=_roots(root, public_key("root"))).changed
    assert wayin.served(context.settings) == ("ops",)


def test_the_last_one_who_gets_in_is_not_shut_out(root: Path) -> None:
    operators.admin_accounts(_context(root, declare(root, admins=[admin("ops")])))
    home = add(root, "bob", "Bob")
    for admins in ([], [admin("bob")]):
        context = _context(root, declare(root, admins=admins))
        with pytest.raises(TerminalError, match="nobody would get in") as refused:
            operators.admin_accounts(context, root=Home(root / "none", 0, 0))
        assert refused.value.reason == "AdminRefused"
        assert "name an admin with a key" in refused.value.remedy
        assert wayin.served(context.settings) == ("ops",)
    assert list(home.iterdir()) == []


def test_who_has_a_way_of_their_own_does_not_need_ours(root: Path) -> None:
    _with_keys(add(root, "zoe", "Zoe", "google-sudoers", field="$y$hash"), public_key("zoe"))
    nobody = Home(root / "none", 0, 0)
    operators.admin_accounts(_context(root, declare(root, admins=[admin("zoe")])), root=nobody)
    context = _context(root, declare(root, admins=[]))
    assert "keys of zoe withdrawn" in operators.admin_accounts(context, root=nobody).detail
    assert (_sudoers(root), wayin.others(context.settings)) == ([], ("zoe",))


# -- a new boot disk


def _of_folder(root: Path, **spec: Any) -> Declaration:
    """By a Host manifest among the manifests."""
    folder = settings(root).manifests
    folder.mkdir(parents=True, exist_ok=True)
    return declare(folder, **spec)


def _of_start_up(root: Path) -> Declaration:
    """By the start-up script's, which names ops and eve."""
    return Declaration(declare(root, admins=[admin("ops"), admin("eve")]).own)


def _carry_out(root: Path, declaration: Declaration) -> tuple[str, ...]:
    """Returns who has sudo then."""
    context = _context(root, declaration)
    context.settings.incus_dir.mkdir(exist_ok=True)
    vault.recover(context)
    operators.admin_accounts(context, root=_nobody(root))
    vault.keep(context)
    return wayin.granted(context.settings)


def _nobody(root: Path) -> Home:
    return Home(root / "none", 0, 0)


def _new_boot_disk(root: Path) -> None:
    for name in ("etc", "state", "home"):
        shutil.rmtree(root / name)
    write_etc(root)
    (root / "etc" / "sudoers.d").mkdir()


def test_a_recovery_gives_nobody_root_who_was_withdrawn(root: Path) -> None:
    assert _carry_out(root, _of_start_up(root)) == ("ops", "eve")
    assert _carry_out(root, _of_folder(root, admins=[admin("ops")])) == ("ops",)
    _new_boot_disk(root)
    assert _carry_out(root, _of_start_up(root)) == ("ops",)
    assert wayin.block(settings(root), "ops") == (public_key("ops"),)
    assert _carry_out(root, _of_folder(root, logs={"retention": "7d"})) == ("ops",), "this one says nothing"
    assert _carry_out(root, _of_folder(root, admins=[admin("ops"), admin("vera")])) == ("ops", "vera")


def test_until_the_manifests_have_named_any_the_start_up_script_s_count(root: Path) -> None:
    _carry_out(root, _of_start_up(root))
    _carry_out(root, _of_folder(root))
    _new_boot_disk(root)
    assert _carry_out(root, _of_start_up(root)) == ("ops", "eve")


def test_admins_that_could_not_be_withdrawn_are_not_taken_for_gone(root: Path) -> None:
    _carry_out(root, _of_folder(root, admins=[admin("ops")]))
    context = _context(root, _of_folder(root, admins=[]))
    with pytest.raises(TerminalError):
        operators.admin_accounts(context, root=_nobody(root))
    vault.keep(context)
    assert list(vault.kept_admins(context.settings) or ()) == ["ops"]
