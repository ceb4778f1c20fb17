"""Host keys for known_hosts: read from files; what a guest wrote into its own counts only as far as it parses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from containarium.host.hostkeys import MachineHostKeys
from containarium.host.incus import GuestFile
from containarium.host.settings import HostSettings
from tests.builders import public_key

BOX = "alice-container"
KEY = public_key("guest")


@dataclass
class Files:
    """A guest's files by their path."""

    files: dict[str, GuestFile] = field(default_factory=dict)

    def put(self, kind: str, data: bytes, what: str = "file") -> None:
        self.files[f"/etc/ssh/ssh_host_{kind}_key.pub"] = GuestFile(what, 0, 0, 0o644, data)

    def read_file(self, instance: str, path: str, limit: int) -> GuestFile | None:
        assert instance == BOX
        assert limit <= 65536
        return self.files.get(path)


def of_guest(files: Files) -> tuple[str, ...]:
    return MachineHostKeys(HostSettings(), files).of_guest(BOX)


def test_a_guests_key_without_its_comment() -> None:
    files = Files()
    files.put("ed25519", f"{KEY}\n".encode())
    assert of_guest(files) == (KEY.rpartition(" ")[0],)


def test_what_is_no_key_is_left_out() -> None:
    for data in (
        b"",
        b"\xff\xfe",
        b"ssh-ed25519 AAAA",
        f"{KEY}\n* {KEY}\n".encode(),
        b"@cert-authority * " + KEY.encode(),
    ):
        files = Files()
        files.put("ed25519", data)
        assert of_guest(files) == ()


def test_a_link_is_not_followed() -> None:
    files = Files()
    files.put("rsa", KEY.encode(), "symlink")
    assert of_guest(files) == ()


def test_the_hosts_own(tmp_path: Path) -> None:
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh" / "ssh_host_ed25519_key.pub").write_text(KEY)
    (tmp_path / "ssh" / "ssh_host_ed25519_key").write_text("never read")
    keys = MachineHostKeys(HostSettings(etc=tmp_path), Files())
    assert keys.of_jump_host() == (KEY.rpartition(" ")[0],)


def test_the_name_is_one_that_can_be_reached() -> None:
    name = MachineHostKeys(HostSettings(), Files()).jump_host_name()
    assert name
    assert not name.startswith("localhost")
