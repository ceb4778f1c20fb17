"""The person's part of a guest: what is right already costs no command, and what is new few requests."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from containarium.host import command
from containarium.host.command import Completed
from containarium.host.faults import COMMAND_LOST
from containarium.host.guest import GuestHands
from containarium.host.guestfiles import BEGIN, END
from containarium.host.incus import GuestFile, Incus, Versioned
from containarium.host.instances import Instances
from containarium.host.look import GuestLook, sudoers_path, sudoers_rule
from containarium.host.nicfilters import NicFilters
from containarium.host.settings import HostSettings
from containarium.model import action as act
from containarium.model import marks
from containarium.model.host import HostError, RetryableError, TerminalError, WaitingError

BOX = "alice-container"
STATUS = b"Package: sudo\nStatus: install ok installed\n\nPackage: openssh-server\nStatus: install ok installed\n\n"
SHELL = "/bin/bash"
USER = act.SetUpUser(environment="alice", instance=BOX, user="alice", shell=SHELL, groups=("sudo",))
KEYS = act.WriteGuestKeys(environment="alice", instance=BOX, user="alice", keys=("k1", "k2"))
SSH = act.EnableService(environment="alice", instance=BOX, service="ssh")
ROOT = act.LockGuestRoot(environment="alice", instance=BOX)
SUDO = act.InstallPackages(environment="alice", instance=BOX, packages=("openssh-server", "sudo"))


class Guest(Incus):
    """A running guest whose files stand in a folder. Of its commands only those that make files are carried out."""

    def __init__(self, root: Path, *, started: datetime | None = None, status: str = "Running") -> None:
        super().__init__(HostSettings())
        self.root = root
        self.ran: list[str] = []
        self.written: list[str] = []
        self.asked: list[str] = []
        self.fails: dict[str, list[Completed]] = {}
        self.there = {
            "name": BOX,
            "status": status,
            "config": {marks.ENVIRONMENT: "alice"},
            "devices": {"root": {"type": "disk", "path": "/", "pool": "default"}},
            "expanded_devices": {"eth0": {"type": "nic"}},
            "last_used_at": (started or datetime.now(UTC)).isoformat(),
        }

    def get_versioned(self, *_path: str) -> Versioned:
        return Versioned(self.there, "etag")

    def get(self, *path: str, timeout: float | None = None, **params: str) -> Any:
        self.asked.append("/".join(path))
        address = {"family": "inet", "scope": "global", "address": "192.0.2.7"}
        return {"status": "Running", "pid": 1, "network": {"eth0": {"addresses": [address]}}}

    def read_file(self, instance: str, path: str, limit: int) -> GuestFile | None:
        where = self.root / path[1:]
        try:
            facts = where.lstat()
        except FileNotFoundError:
            return None
        kind = "directory" if where.is_dir() else "symlink" if where.is_symlink() else "file"
        data = where.read_bytes()[:limit] if kind == "file" else b""
        return GuestFile(kind, 0 if path.startswith("/etc") else 1000, 1000, stat.S_IMODE(facts.st_mode), data)

    def write_file(self, instance: str, path: str, data: bytes, *, uid: int, gid: int, mode: int) -> None:
        where = self.root / path[1:]
        if not where.parent.is_dir():
            raise TerminalError("no such folder", reason="NotFound")
        self.written.append(f"{path} {uid} {mode:o}")
        where.write_bytes(data)
        where.chmod(mode)

    def make_folder(self, instance: str, path: str, *, uid: int, gid: int, mode: int) -> None:
        self.written.append(f"{path} {uid} {mode:o}")
        (self.root / path[1:]).mkdir(mode=mode, exist_ok=True)

    def remove_file(self, instance: str, path: str) -> None:
        (self.root / path[1:]).unlink(missing_ok=True)

    def execute(
        self,
        instance: str,
        args: Sequence[str],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        keep: int = 0,
    ) -> Completed:
        if args[0] == "sh":
            return self._newcomer(args)
        self.ran.append(" ".join(args))
        if answers := self.fails.get(args[0]):
            return answers.pop(0)
        if args[0] == "useradd":
            with (self.root / "etc/passwd").open("a") as passwd:
                passwd.write("alice:x:1000:1000::/home/alice:/bin/bash\n")
            (self.root / "home/alice").mkdir(parents=True)
        elif args[0] == "mv":
            (self.root / args[-2][1:]).rename(self.root / args[-1][1:])
        return Completed(0, "", "")

    def _newcomer(self, args: Sequence[str]) -> Completed:
        """Run the script as it is, over this folder, with tools that stand in for the guest's."""
        script, (user, shell, groups, rule_path, rule, keys) = args[2], args[4:]
        self.ran.append(f"newcomer {user} {shell} {groups}")
        if answers := self.fails.get("newcomer"):
            return answers.pop(0)
        tools = self.root / "tools"
        tools.mkdir(exist_ok=True)
        home = self.root / "home" / user
        for name, text in {
            "useradd": f'echo "$@" >> {tools}/useradd.log; mkdir -p {home}; '
            f"echo {user}:x:1000:1000::/home/{user}:{shell} >> {self.root}/etc/passwd",
            "getent": f"echo {user}:x:1000:1000::{home}:{shell}",
            "chown": f'echo "$@" >> {tools}/chown.log',
        }.items():
            (tools / name).write_text(f"#!/bin/sh\nset -e\n{text}\n")
            (tools / name).chmod(0o755)
        there = [user, shell, groups, f"{self.root}{rule_path}", rule, keys]
        done = subprocess.run(
            ["/bin/sh", "-c", script, "newcomer", *there],
            env={"PATH": f"{tools}:/usr/bin:/bin"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Completed(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def settings(tmp_path: Path) -> HostSettings:
    return HostSettings(incus_dir=tmp_path, pool="default")


@pytest.fixture
def root(settings: HostSettings) -> Path:
    """A guest as a baked recipe has it: SSH on, no password of root's, and nobody in it."""
    root = settings.incus_dir / "storage-pools/default/containers" / BOX / "rootfs"
    files = {
        "etc/passwd": b"root:x:0:0::/root:/bin/sh\n",
        "etc/shadow": b"root:*:1::::::\n",
        "etc/group": b"sudo:x:27:\n",
        "var/lib/dpkg/status": STATUS,
        "lib/systemd/system/ssh.service": b"[Unit]\n",
    }
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (root / "etc/sudoers.d").mkdir()
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "ssh.service").symlink_to("/lib/systemd/system/ssh.service")
    return root


def hands(guest: Guest, settings: HostSettings) -> GuestHands:
    return GuestHands(
        guest, Instances(guest, NicFilters(guest, command.run), settings), GuestLook(Incus(settings), settings)
    )


def test_what_a_recipe_brought_costs_no_command(settings: HostSettings, root: Path) -> None:
    guest = Guest(root)
    for action in (SUDO, SSH, ROOT):
        hands(guest, settings).execute(action)
    assert (guest.ran, guest.written, guest.asked) == ([], [], [])


def test_the_persons_part_is_one_command_and_no_file_of_incus(settings: HostSettings, root: Path) -> None:
    guest = Guest(root)
    ours = hands(guest, settings)
    ours.execute(replace(USER, keys=KEYS.keys))
    ours.execute(KEYS)
    assert (guest.ran, guest.written, guest.asked) == (["newcomer alice /bin/bash sudo"], [], [])
    assert (root / "tools/useradd.log").read_text() == "-m -U -s /bin/bash -p * -G sudo -- alice\n"
    keys, rule = root / "home/alice/.ssh/authorized_keys", root / sudoers_path("alice")[1:]
    assert keys.read_bytes() == BEGIN + b"\nk1\nk2\n" + END + b"\n"
    assert rule.read_bytes() == sudoers_rule("alice")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (keys.parent, keys, rule)]
    assert modes == [0o700, 0o600, 0o440]
    assert (root / "tools/chown.log").read_text() == "-R -h -- alice: .ssh\n"


def test_other_keys_than_those_of_the_newcomer_are_written(settings: HostSettings, root: Path) -> None:
    guest = Guest(root)
    ours = hands(guest, settings)
    ours.execute(replace(USER, keys=("old",)))
    ours.execute(KEYS)
    ours.execute(KEYS)
    assert (root / "home/alice/.ssh/authorized_keys").read_bytes() == BEGIN + b"\nk1\nk2\n" + END + b"\n"


def test_a_folder_of_keys_that_the_image_brought_is_left_to_the_slow_way(settings: HostSettings, root: Path) -> None:
    guest = Guest(root)
    (root / "home/alice/.ssh").mkdir(parents=True)
    ours = hands(guest, settings)
    ours.execute(replace(USER, keys=KEYS.keys))
    ours.execute(KEYS)
    assert "/home/alice/.ssh/.authorized_keys.containarium 1000 600" in guest.written
    assert (root / "home/alice/.ssh/authorized_keys").read_bytes() == BEGIN + b"\nk1\nk2\n" + END + b"\n"


def test_keys_without_an_account_of_a_moment_ago_are_written(settings: HostSettings, root: Path) -> None:
    guest = Guest(root)
    hands(guest, settings).execute(USER)
    hands(guest, settings).execute(KEYS)
    assert guest.written == ["/home/alice/.ssh 1000 700", "/home/alice/.ssh/authorized_keys 1000 600"]


def test_a_folder_for_sudos_rules_is_made_where_there_is_none(settings: HostSettings, root: Path) -> None:
    guest = Guest(root)
    (root / "etc/sudoers.d").rmdir()
    hands(guest, settings).execute(USER)
    assert guest.written == ["/etc/sudoers.d 0 750", f"{sudoers_path('alice')} 0 440"]


def test_an_account_that_cannot_be_made_just_so_is_looked_into(settings: HostSettings, root: Path) -> None:
    guest = Guest(root)
    (root / "etc/group").write_bytes(b"sudo:x:27:\nalice:x:1000:\n")
    guest.fails["newcomer"] = [Completed(9, "", "useradd: group alice exists")]
    hands(guest, settings).execute(USER)
    assert guest.ran[1:] == ["useradd -m -N -g alice -s /bin/bash -p * -G sudo -- alice"]


def test_a_command_whose_fate_is_unknown_is_looked_for_again(settings: HostSettings, root: Path) -> None:
    class Forgetful(Guest):
        def execute(self, instance: str, args: Sequence[str], **options: Any) -> Completed:
            done = super().execute(instance, args, **options)
            if len(self.ran) == 1:
                raise RetryableError("it ended without an exit code", reason=COMMAND_LOST)
            return done

    guest = Forgetful(root)
    hands(guest, settings).execute(USER)
    assert [one.split()[0] for one in guest.ran].count("newcomer") == 1
    assert (root / sudoers_path("alice")[1:]).exists()


def test_a_rule_that_somebody_changed_is_replaced_at_once(settings: HostSettings, root: Path) -> None:
    guest = Guest(root)
    rule = root / sudoers_path("alice")[1:]
    rule.write_bytes(b"alice ALL=(ALL:ALL) ALL\n")
    hands(guest, settings).execute(USER)
    path = sudoers_path("alice")
    assert f"mv -f -T -- {path}.new {path}" in guest.ran
    assert rule.read_bytes() == sudoers_rule("alice")


def test_the_persons_own_keys_stay(settings: HostSettings, root: Path) -> None:
    guest = Guest(root)
    hands(guest, settings).execute(USER)
    folder = root / "home/alice/.ssh"
    folder.mkdir(mode=0o700)
    (folder / "authorized_keys").write_bytes(b"own\n")
    hands(guest, settings).execute(KEYS)
    assert (folder / "authorized_keys").read_bytes() == b"own\n" + BEGIN + b"\nk1\nk2\n" + END + b"\n"
    assert guest.ran[-1].startswith("mv -f -T -- ")  # nobody reads half of it


def test_a_link_in_the_place_of_the_keys_is_refused(settings: HostSettings, root: Path) -> None:
    guest = Guest(root)
    hands(guest, settings).execute(USER)
    (root / "home/alice/.ssh").symlink_to("/nowhere")
    with pytest.raises(TerminalError, match="is a symlink"):
        hands(guest, settings).execute(KEYS)


@pytest.mark.parametrize("shadow", [b"root::1::::::\n", b"root:$6$salt$hash:1::::::\n", b""])
def test_a_password_of_roots_is_taken_away(settings: HostSettings, root: Path, shadow: bytes) -> None:
    guest = Guest(root)
    (root / "etc/shadow").write_bytes(shadow)
    hands(guest, settings).execute(ROOT)
    assert guest.ran[-1] == "usermod -p * -- root"


@pytest.mark.parametrize("link", ["multi-user.target.wants/ssh.service", "ssh.service"])
def test_a_service_that_is_off_is_enabled(settings: HostSettings, root: Path, link: str) -> None:
    guest = Guest(root)
    path = root / "etc/systemd/system" / link
    path.unlink(missing_ok=True)
    if link == "ssh.service":
        path.symlink_to("/dev/null")
    hands(guest, settings).execute(SSH)
    assert guest.ran == ["systemctl enable --now -- ssh"]


def test_a_service_that_the_boot_has_had_time_to_start_is_started(settings: HostSettings, root: Path) -> None:
    guest = Guest(root, started=datetime.now(UTC) - timedelta(hours=1))
    hands(guest, settings).execute(SSH)
    assert guest.ran == ["systemctl enable --now -- ssh"]


def test_nothing_is_taken_for_right_that_cannot_be_seen(settings: HostSettings, root: Path, tmp_path: Path) -> None:
    guest = Guest(root)
    unseen = HostSettings(incus_dir=tmp_path / "elsewhere", pool="default")
    for action in (SSH, ROOT):
        hands(guest, unseen).execute(action)
    assert guest.ran == ["systemctl enable --now -- ssh", "usermod -p * -- root"]


@pytest.mark.parametrize(
    ("status", "started", "kind", "reason"),
    [
        ("Stopped", timedelta(0), RetryableError, "GuestDied"),
        ("Stopped", timedelta(minutes=2), WaitingError, "NotRunning"),
        ("Stopped", timedelta(days=20_000), WaitingError, "NotRunning"),
        ("Frozen", timedelta(0), WaitingError, "NotRunning"),
    ],
)
def test_a_guest_that_ended_by_itself_is_told_apart(
    settings: HostSettings, root: Path, status: str, started: timedelta, kind: type[HostError], reason: str
) -> None:
    guest = Guest(root, started=datetime.now(UTC) - started, status=status)
    with pytest.raises(kind) as caught:
        hands(guest, settings).execute(USER)
    assert caught.value.reason == reason
    assert guest.ran == []


def test_another_ones_guest_is_left_alone(settings: HostSettings, root: Path) -> None:
    guest = Guest(root)
    guest.there["config"] = {marks.ENVIRONMENT: "bob"}
    for action in (USER, KEYS, SSH, ROOT, SUDO):
        with pytest.raises(TerminalError) as caught:
            hands(guest, settings).execute(action)
        assert caught.value.reason == "Conflict"
    assert (guest.ran, guest.written) == ([], [])
