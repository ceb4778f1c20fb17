"""What a guest's own files say, whatever they hold."""

from __future__ import annotations

import pytest

from containarium.host import guestfiles
from containarium.host.guestfiles import BEGIN, END, GuestUser
from containarium.model.host import TerminalError
from containarium.model.observed import Password

PASSWD = b"root:x:0:0:root:/root:/bin/bash\nalice:x:1000:1001:,,,:/home/alice:/bin/bash\nalicex:x:5:5::/:/bin/sh"

OURS = BEGIN + b"\nssh-ed25519 AAAA a\nssh-ed25519 BBBB b\n" + END + b"\n"


class TestUsers:
    def test_finds_exactly_the_name(self) -> None:
        assert guestfiles.find_user(PASSWD, "alice") == GuestUser(1000, 1001, "/home/alice", "/bin/bash")
        assert guestfiles.find_user(PASSWD, "alicex") is not None
        assert guestfiles.find_user(PASSWD, "alic") is None
        assert guestfiles.find_user(PASSWD, "oot") is None

    @pytest.mark.parametrize(
        "line",
        [
            b"alice:x:one:1::/home/alice:/bin/sh",
            b"alice:x:-1:1::/home/alice:/bin/sh",
            b"alice:x:4294967295:1::/home/alice:/bin/sh",
            b"alice:x:1000",
            b"alice",
            b"",
            b"\xff\xfe:\x00",
        ],
    )
    def test_an_entry_that_makes_no_sense_is_none(self, line: bytes) -> None:
        assert guestfiles.find_user(line, "alice") is None

    @pytest.mark.parametrize(
        "home", ["/home/../etc", "home/alice", "/", "", "/home/a\tb", "/home//alice", "/h/./a", "/" + "x" * 300]
    )
    def test_an_odd_home_is_empty(self, home: str) -> None:
        user = guestfiles.find_user(f"alice:x:1:1::{home}:/bin/sh".encode(), "alice")
        assert user is not None
        assert user.home == ""

    @pytest.mark.parametrize(
        ("field", "password"),
        [
            ("*", Password.NONE),
            ("!", Password.LOCKED),
            ("!*", Password.LOCKED),
            ("", Password.EMPTY),
            ("$y$j9T$x$y", Password.USABLE),
        ],
    )
    def test_passwords(self, field: str, password: Password) -> None:
        shadow = f"root:*:1::::::\nalice:{field}:19000:0:99999:7:::\n".encode()
        assert guestfiles.find_password(shadow, "alice") is password
        assert guestfiles.find_password(shadow, "bob") is Password.MISSING

    def test_a_password_in_passwd_itself_counts_more(self) -> None:
        user = guestfiles.find_user(b"alice::1000:1000::/home/alice:/bin/sh\n", "alice")
        assert guestfiles.effective_password(user, Password.NONE) is Password.EMPTY
        assert guestfiles.effective_password(None, Password.LOCKED) is Password.LOCKED

    def test_groups_hold_the_primary_one_too(self) -> None:
        group = b"root:x:0:\nsudo:x:27:bob,alice\ndocker:x:104:alicex\nalice:x:1001:\nbroken\n"
        assert guestfiles.find_groups(group, "alice", 1001) == {"sudo", "alice"}
        assert guestfiles.find_groups(group, "alice", None) == {"sudo"}


class TestPackages:
    def test_installed_and_provided(self) -> None:
        status = (
            b"Package: git\nStatus: install ok installed\nVersion: 1\nProvides: git-completion, git-core (= 1:2.39)\n\n"
            b"Package: vim\nEssential: no\nStatus: deinstall ok config-files\n\n"
            b"Package: half\nStatus: install ok unpacked\n\n"
            b"Package: held\nStatus: hold ok installed\nDescription: x\n Status: no field\n\n"
            b"Package: last\nStatus: install ok installed"
        )
        assert guestfiles.installed_packages(status) == {"git", "git-completion", "git-core", "held", "last"}

    @pytest.mark.parametrize(
        "status", [b"", b"\n" * 100_000, b"Package: x", b"\xff\x00" * 1000, b"Status: a ok installed"]
    )
    def test_nonsense_holds_nothing(self, status: bytes) -> None:
        assert guestfiles.installed_packages(status) == frozenset()

    def test_a_hostile_file_is_bounded(self) -> None:
        flood = b"".join(b"Package: p%d\nStatus: install ok installed\n\n" % n for n in range(60_000))
        assert len(guestfiles.installed_packages(flood)) == 20_000


class TestKeysBlock:
    @pytest.mark.parametrize(
        ("file", "keys"),
        [
            (OURS, ("ssh-ed25519 AAAA a", "ssh-ed25519 BBBB b")),
            (b"own key\n" + OURS + b"more\n", ("ssh-ed25519 AAAA a", "ssh-ed25519 BBBB b")),
            (BEGIN + b"\n" + END + b"\n", ()),
            (b"", None),
            (b"own key\n", None),
            (OURS + OURS, None),
            (BEGIN + b"\nkey\n", None),
            (END + b"\n", None),
        ],
    )
    def test_read(self, file: bytes, keys: tuple[str, ...] | None) -> None:
        assert guestfiles.read_block(file) == keys

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (b"", b"<>"),
            (b"own", b"own\n<>"),
            (b"own\n\n", b"own\n\n<>"),
            (b"a\n" + OURS + b"z", b"a\n<>z"),
            (b"a\n" + OURS + b"b\n" + OURS + b"c\n", b"a\n<>b\nc\n"),
            (b"a\n" + BEGIN + b"\nmine?\n", b"a\nmine?\n<>"),
            (b"a\n" + END + b"\nb\n", b"a\nb\n<>"),
            (b"\xff\xfe own bytes\r\n", b"\xff\xfe own bytes\r\n<>"),
        ],
    )
    def test_write_keeps_everything_outside(self, before: bytes, after: bytes) -> None:
        written = guestfiles.write_block(before, ("k1", "k2"))
        assert written == after.replace(b"<>", BEGIN + b"\nk1\nk2\n" + END + b"\n")
        assert guestfiles.read_block(written) == ("k1", "k2")
        assert guestfiles.write_block(written, ("k1", "k2")) == written

    def test_no_keys_leave_an_empty_block(self) -> None:
        assert guestfiles.write_block(OURS, ()) == BEGIN + b"\n" + END + b"\n"

    def test_a_key_cannot_smuggle_in_a_line(self) -> None:
        with pytest.raises(TerminalError):
            guestfiles.write_block(b"", ("k\nssh-rsa EVIL",))
