"""The vault: a new boot disk takes over what it holds, a living one is followed, and nobody else ever reads it."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from containarium.host.command import Completed
from containarium.host.incus import Incus
from containarium.host.prepare import vault
from containarium.host.prepare.receipt import Made, Receipt
from containarium.host.prepare.steps import Context
from containarium.host.prepare.undo import undo
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError, silent
from tests.unit.host.etcfiles import FakeRun, write_etc

OLD, NEW, ROTATED = "of the lost disk", "of the new disk", "rotated"
REFUSED = FakeRun(lambda args: Completed(1, "", "bad key") if "-t" in args else Completed(0, "", ""))


def _context(root: Path, host: HostSettings, run: FakeRun | None = None, *, systemd: bool = False) -> Context:
    return Context(host, run or FakeRun(), Incus(host), Receipt(root / "state" / "prepared.json"), silent, systemd)


def _boot_disk(root: Path, key: str, **files: str) -> HostSettings:
    """A machine with a host key, as if every file of its boot disk was new; what Incus has stays."""
    for old in ("etc", "state", "run"):
        if (root / old).exists():
            (root / old).rename(root / f"lost-{old}-{len(list(root.iterdir()))}")
    host = write_etc(root, **files)
    (root / "incus").mkdir(exist_ok=True)
    for folder in (host.state, host.runtime, host.etc / "ssh"):
        folder.mkdir()
    _write_keys(host, key)
    return host


def _write_keys(host: HostSettings, key: str) -> None:
    for kind in ("ed25519", "rsa"):
        (host.etc / "ssh" / f"ssh_host_{kind}_key").write_text(f"private {kind} {key}\n")
        (host.etc / "ssh" / f"ssh_host_{kind}_key.pub").write_text(f"public {kind} {key}\n")


def _keys(host: HostSettings) -> set[str]:
    """Whose keys sshd has."""
    return {path.read_text().split(maxsplit=2)[2].strip() for path in (host.etc / "ssh").glob("ssh_host_*_key*")}


def _prepare(root: Path, host: HostSettings, run: FakeRun | None = None, *, systemd: bool = False) -> list[Any]:
    context = _context(root, host, run, systemd=systemd)
    return [vault.recover(context), vault.keep(context)]


def test_the_first_run_makes_it_and_the_second_changes_nothing(tmp_path: Path) -> None:
    host = _boot_disk(tmp_path, OLD)
    assert [step.changed for step in _prepare(tmp_path, host)] == [False, True]
    assert [step.changed for step in _prepare(tmp_path, host)] == [False, False]
    assert vault.differs(host) == ""


def test_root_alone_reads_it(tmp_path: Path) -> None:
    host = _boot_disk(tmp_path, OLD)
    _prepare(tmp_path, host)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (host.vault, *host.vault.iterdir(), vault.mark(host))}
    assert sorted(modes.values()) == [0o600, 0o600, 0o700], modes


def test_a_new_boot_disk_gets_the_host_keys_back(tmp_path: Path) -> None:
    _prepare(tmp_path, _boot_disk(tmp_path, OLD))
    host, run = _boot_disk(tmp_path, NEW), FakeRun()
    step, kept = _prepare(tmp_path, host, run)
    assert (step.changed, kept.changed) == (True, False)
    assert "host keys" in step.detail
    assert _keys(host) == {OLD}
    private, public = (host.etc / "ssh" / f"ssh_host_rsa_key{end}" for end in ("", ".pub"))
    assert [stat.S_IMODE(path.stat().st_mode) for path in (private, public)] == [0o600, 0o644]
    assert ["-t" in command for command in run.commands] == [True], "tested first"
    assert [step.changed for step in _prepare(tmp_path, host)] == [False, False]


def test_keys_that_sshd_refuses_are_taken_back(tmp_path: Path) -> None:
    _prepare(tmp_path, _boot_disk(tmp_path, OLD))
    host = _boot_disk(tmp_path, NEW)
    with pytest.raises(TerminalError) as refused:
        _prepare(tmp_path, host, REFUSED)
    assert refused.value.reason == "SshdConfigRefused"
    assert _keys(host) == {NEW}
    assert _prepare(tmp_path, host)[0].changed, "the next run tries it again"


def test_a_run_that_crashed_after_placing_the_keys_has_the_server_read_them_later(tmp_path: Path) -> None:
    _prepare(tmp_path, _boot_disk(tmp_path, OLD))
    host, run = _boot_disk(tmp_path, NEW), FakeRun()
    _write_keys(host, OLD)
    _prepare(tmp_path, host, run)
    assert any("-t" in command for command in run.commands)
    assert vault.differs(host) == ""


def test_replaced_host_keys_are_followed_and_the_old_ones_never_come_back(tmp_path: Path) -> None:
    host = _boot_disk(tmp_path, OLD)
    _prepare(tmp_path, host)
    _write_keys(host, ROTATED)
    assert "other host keys" in vault.differs(host)
    assert [step.changed for step in _prepare(tmp_path, host)] == [False, True]
    assert _keys(host) == {ROTATED}
    host = _boot_disk(tmp_path, NEW)
    _prepare(tmp_path, host)
    assert _keys(host) == {ROTATED}


def test_a_kind_of_key_that_was_dropped_leaves_the_vault(tmp_path: Path) -> None:
    host = _boot_disk(tmp_path, OLD)
    _prepare(tmp_path, host)
    for path in (host.etc / "ssh").glob("ssh_host_rsa_key*"):
        path.unlink()
    _prepare(tmp_path, host)
    assert "rsa" not in (host.vault / "kept.json").read_text()


def test_host_keys_that_are_all_gone_stay_in_the_vault(tmp_path: Path) -> None:
    host = _boot_disk(tmp_path, OLD)
    _prepare(tmp_path, host)
    for path in (host.etc / "ssh").iterdir():
        path.unlink()
    assert "no host keys" in _prepare(tmp_path, host)[1].warning
    assert OLD in (host.vault / "kept.json").read_text()


def test_a_boot_disk_made_from_an_old_image_does_not_bring_old_keys_back(tmp_path: Path) -> None:
    host = _boot_disk(tmp_path, OLD)
    _prepare(tmp_path, host)
    image = vault.mark(host).read_text()
    _write_keys(host, ROTATED)
    _prepare(tmp_path, host)
    host = _boot_disk(tmp_path, OLD)
    vault.mark(host).write_text(image)
    _prepare(tmp_path, host)
    assert _keys(host) == {ROTATED}


def test_the_daemon_follows_but_neither_makes_nor_overwrites(tmp_path: Path) -> None:
    host = _boot_disk(tmp_path, OLD)
    assert not vault.follow(host)
    assert not host.vault.exists()
    _prepare(tmp_path, host)
    _write_keys(host, ROTATED)
    assert vault.follow(host)
    assert not vault.follow(host)
    host = _boot_disk(tmp_path, NEW)
    assert not vault.follow(host), "not before the new boot disk has taken over"
    assert ROTATED in (host.vault / "kept.json").read_text()


def test_the_probes_key_survives(tmp_path: Path) -> None:
    host = _boot_disk(tmp_path, OLD)
    host.probe_key.parent.mkdir()
    host.probe_key.write_text("private probe\n")
    host.probe_key.with_name("id_ed25519.pub").write_text("public probe\n")
    _prepare(tmp_path, host)
    host = _boot_disk(tmp_path, NEW)
    assert "probe" in _prepare(tmp_path, host)[0].detail
    assert host.probe_key.read_text() == "private probe\n"
    assert _context(tmp_path, host).receipt.holds("probe key", str(host.probe_key)), "it can be taken back"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (host.probe_key.parent, host.probe_key)] == [0o700, 0o600]


def test_root_gets_the_ids_that_the_guests_have(tmp_path: Path) -> None:
    _prepare(tmp_path, _boot_disk(tmp_path, OLD, subuid="root:500000:65536000\n", subgid="0:500000:65536000\n"))
    host, run = _boot_disk(tmp_path, NEW, subuid="root:1000000:10\nadmin:100000:65536\n"), FakeRun()
    step = _prepare(tmp_path, host, run, systemd=True)[0]
    assert "subuid" in step.detail
    assert (host.etc / "subuid").read_text() == "root:500000:65536000\nadmin:100000:65536\n"
    assert (host.etc / "subgid").read_text() == "root:500000:65536000\n"
    assert ["systemctl", "try-restart", "incus.service"] in run.commands


def test_ids_that_somebody_else_has_by_now_are_left_alone(tmp_path: Path) -> None:
    _prepare(tmp_path, _boot_disk(tmp_path, OLD, subuid="root:500000:65536000\n"))
    host = _boot_disk(tmp_path, NEW, subuid="admin:500000:65536\n")
    assert "admin" in _prepare(tmp_path, host)[0].warning
    assert (host.etc / "subuid").read_text() == "admin:500000:65536\n"


def test_what_was_made_on_the_data_disk_can_be_taken_back_from_a_new_boot_disk(tmp_path: Path) -> None:
    host = _boot_disk(tmp_path, OLD)
    context = _context(tmp_path, host)
    context.receipt.add("file", "/etc/of/the/boot/disk", "digest")
    context.receipt.add("pool", "default")
    context.receipt.add("incus setting", "core.shutdown_timeout", "5")
    vault.keep(context)
    host = _boot_disk(tmp_path, NEW)
    _prepare(tmp_path, host)
    assert list(_context(tmp_path, host).receipt) == [
        Made("pool", "default"),
        Made("incus setting", "core.shutdown_timeout", "5"),
        Made("vault", str(host.vault)),
    ]


def test_it_is_removed_with_everything_else(tmp_path: Path) -> None:
    host = _boot_disk(tmp_path, OLD)
    context = _context(tmp_path, host)
    vault.keep(context)
    assert [step.warning for step in undo(context)] == [""]
    assert not host.vault.exists()
    assert not vault.mark(host).exists()


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2}', '{"version": 1}', '{"version": 1, "host_keys": 3}'])
def test_a_vault_that_makes_no_sense_is_an_error(tmp_path: Path, text: str) -> None:
    host = _boot_disk(tmp_path, NEW)
    _damage(host, text)
    with pytest.raises(TerminalError, match="moved away") as refused:
        _prepare(tmp_path, host)
    assert refused.value.reason == "VaultUnreadable"
    assert _keys(host) == {NEW}


def test_no_name_in_the_vault_leads_out_of_the_ssh_folder(tmp_path: Path) -> None:
    _prepare(tmp_path, _boot_disk(tmp_path, OLD))
    host = _boot_disk(tmp_path, NEW)
    _damage(host, (host.vault / "kept.json").read_text().replace("ssh_host_rsa_key.pub", "../../passwd"))
    with pytest.raises(TerminalError) as refused:
        _prepare(tmp_path, host)
    assert refused.value.reason == "VaultUnreadable"


@pytest.mark.parametrize("part", ["", "kept.json"])
def test_a_vault_that_others_could_write_is_not_trusted(tmp_path: Path, part: str) -> None:
    _prepare(tmp_path, _boot_disk(tmp_path, OLD))
    host = _boot_disk(tmp_path, NEW)
    path = host.vault / part
    path.chmod(path.stat().st_mode | 0o002)
    with pytest.raises(TerminalError) as refused:
        _prepare(tmp_path, host)
    assert refused.value.reason == "VaultUnsafe"
    assert _keys(host) == {NEW}


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    _prepare(tmp_path, _boot_disk(tmp_path, OLD))
    host = _boot_disk(tmp_path, NEW)
    host.vault.rename(tmp_path / "elsewhere")
    host.vault.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TerminalError) as refused:
        _prepare(tmp_path, host)
    assert refused.value.reason == "VaultUnsafe"


def _damage(host: HostSettings, text: str) -> None:
    host.vault.mkdir(mode=0o700, exist_ok=True)
    (host.vault / "kept.json").write_text(text)
    (host.vault / "kept.json").chmod(0o600)
