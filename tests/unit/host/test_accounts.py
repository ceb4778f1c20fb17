"""Jump accounts: what is read from the account files, and which command mends what."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from containarium.host.accounts import Accounts
from containarium.host.command import Completed
from containarium.host.jumpaccount import is_ours, useradd
from containarium.host.keyfiles import UNSAFE, Known, read_all_keys, write_keys_file
from containarium.host.passwd import classify_password, read_account_files
from containarium.host.passwdlock import lock_file_owners, our_turn, remove_stale_locks, stale_locks
from containarium.host.sessions import end_processes
from containarium.model.host import HostError, RetryableError, TerminalError
from containarium.model.observed import Account, Password
from tests.unit.host.etcfiles import TODAY, FakeRun, jump_line, write_etc

KEY = 'restrict,port-forwarding,permitopen="10.0.3.5:22" ssh-ed25519 AAAA alice@laptop'
GOOD_SHADOW = "+alice:*:19000:0:99999:7:::\n"


def _alice(tmp_path: Path, **files: str) -> Account:
    given = {"passwd": "+" + jump_line("alice"), "shadow": GOOD_SHADOW, **files}
    found, _ = Accounts(write_etc(tmp_path, **given), FakeRun()).observe()
    return found["alice"]


def test_a_jump_account_as_it_should_be(tmp_path: Path) -> None:
    account = _alice(tmp_path)
    assert is_ours(account)
    assert (account.password, account.expired, account.groups, account.subordinate_ids, account.keys) == (
        Password.NONE,
        False,
        frozenset(),
        False,
        None,
    )


@pytest.mark.parametrize(
    ("field", "password"),
    [("*", "*"), ("", "empty"), ("!", "!"), ("!*", "!"), ("!!", "!"), ("$y$j9T$x", "set"), ("*LK*", "*")],
)
def test_what_a_password_field_allows(field: str, password: str) -> None:
    assert classify_password(field) == password


def test_an_account_without_shadow_line_is_half_made(tmp_path: Path) -> None:
    assert _alice(tmp_path, shadow="+").password is Password.MISSING


def test_an_empty_password_in_passwd_itself_lets_anybody_in(tmp_path: Path) -> None:
    assert _alice(tmp_path, passwd="+" + jump_line("alice").replace(":x:", "::", 1)).password is Password.EMPTY


@pytest.mark.parametrize(
    ("shadow", "expired"),
    [
        ("alice:*:19000:0:99999:7:::", False),
        ("alice:*:19000:0:99999:7::1:", True),
        ("alice:*:19000:0:99999:7::0:", True),
        (f"alice:*:19000:0:99999:7::{TODAY + 2}:", False),
        ("alice:*:19000:0:99999:7::-1:", False),
        ("alice:*:0:0:99999:7:::", True),  # PAM asks for a new password, and there is none to change
        ("alice:*:19000:0:30:7:::", True),
        ("alice:*:19000:0::7:::", False),
    ],
)
def test_expiry(tmp_path: Path, shadow: str, expired: bool) -> None:
    assert _alice(tmp_path, shadow=f"+{shadow}\n").expired is expired


def test_a_key_is_withdrawn_while_another_account_waits_for_its_lock(tmp_path: Path) -> None:
    settings = write_etc(tmp_path, passwd="+" + jump_line("alice"), shadow=GOOD_SHADOW)
    accounts = Accounts(settings, FakeRun(), patience=0)
    accounts.write_keys("alice", (KEY,))
    with our_turn(settings.runtime, wait=0):
        withdrawing = threading.Thread(target=accounts.write_keys, args=("alice", ()))
        withdrawing.start()
        withdrawing.join(20)
        assert read_all_keys(settings.jump_keys) == {}


def test_groups_leave_out_the_primary_one(tmp_path: Path) -> None:
    account = _alice(tmp_path, group="+docker:x:999:bob,alice\n")
    assert account.group == "containarium-jump"
    assert account.groups == {"docker"}


@pytest.mark.parametrize("owner", ["alice", "1500"])
def test_subordinate_ids_stand_under_name_or_number(tmp_path: Path, owner: str) -> None:
    assert _alice(tmp_path, subgid=f"{owner}:100000:65536\n").subordinate_ids


def test_odd_lines_are_skipped(tmp_path: Path) -> None:
    odd = "+\n# a comment\n+::::::\nhalf:x:12\nbad:x:nan:1:::\n:x:7:7:::\n" + jump_line("alice") + "cut off:x"
    settings = write_etc(tmp_path, passwd=odd, shadow="+alice:*\n\nx", group="+broken\nnot:x:a-number:\n")
    found, _ = Accounts(settings, FakeRun()).observe()
    assert set(found) == {"root", "admin", "alice"}


def test_of_two_lines_with_one_name_the_first_counts(tmp_path: Path) -> None:
    twice = "+" + jump_line("alice", 1500) + "alice:x:0:0:root:/:/bin/sh\n"
    assert _alice(tmp_path, passwd=twice).uid == 1500


@pytest.mark.parametrize(
    "line",
    [
        jump_line("alice", comment="Alice"),
        jump_line("alice", comment="containarium jump account of bob"),
        jump_line("alice", gid=1000).replace("/nonexistent", "/home/alice"),
        jump_line("alice", gid=4711).replace("/nonexistent", "/"),
    ],
)
def test_marks_make_an_account_ours(tmp_path: Path, line: str) -> None:
    assert not is_ours(_alice(tmp_path, passwd="+" + line))


@pytest.mark.parametrize("line", [jump_line("alice", gid=1000), jump_line("alice").replace("/nonexistent", "/")])
def test_a_group_or_a_home_that_was_changed_is_drift(tmp_path: Path, line: str) -> None:
    assert _mends(tmp_path, passwd="+" + line)[0][:2] in (["usermod", "-g"], ["usermod", "-d"])


def _mends(tmp_path: Path, **files: str) -> list[list[str]]:
    """The commands of a repair that never succeeds."""
    run = FakeRun()
    given = {"passwd": "+" + jump_line("alice"), "shadow": GOOD_SHADOW, **files}
    with pytest.raises(RetryableError, match="not as it should be"):
        Accounts(write_etc(tmp_path, **given), run).ensure("alice")
    return run.commands


def test_nothing_is_run_for_an_account_that_is_right(tmp_path: Path) -> None:
    run = FakeRun()
    Accounts(write_etc(tmp_path, passwd="+" + jump_line("alice"), shadow=GOOD_SHADOW), run).ensure("alice")
    assert run.commands == []


def test_a_missing_account_is_made(tmp_path: Path) -> None:
    assert _mends(tmp_path, passwd="+")[0] == useradd("alice")
    assert useradd("alice")[-2:] == ["--", "alice"]


def test_a_half_made_account_is_completed(tmp_path: Path) -> None:
    assert _mends(tmp_path, shadow="+")[0] == ["usermod", "-p", "*", "-e", "", "--", "alice"]


def test_drift_is_mended_in_one_command(tmp_path: Path) -> None:
    command = _mends(
        tmp_path,
        passwd="+" + jump_line("alice").replace("/nonexistent:/usr/sbin/nologin", "/home/alice:/bin/bash"),
        shadow="+alice:!:19000:0:99999:7::1:\n",
        group="+docker:x:999:alice\n",
        subuid="alice:100000:65536\n",
    )[0]
    wanted = ["-d", "/nonexistent", "-s", "/usr/sbin/nologin", "-G", "", "-p", "*", "-e", ""]
    assert command == ["usermod", *wanted, "--del-subuids", "100000-165535", "--", "alice"]


def test_aging_ends(tmp_path: Path) -> None:
    assert _mends(tmp_path, shadow="+alice:*:0:0:99999:7:::\n")[0][:3] == ["chage", "-d", str(TODAY)]


def test_a_deleted_group_gets_its_old_number_back(tmp_path: Path) -> None:
    commands = _mends(tmp_path, group="root:x:0:\n")
    assert commands[0] == ["groupadd", "-r", "-g", "993", "--", "containarium-jump"]


@pytest.mark.parametrize("name", ["root", "admin"])
@pytest.mark.parametrize("action", ["ensure", "lock", "delete", "write_keys"])
def test_a_foreign_account_is_left_alone(tmp_path: Path, name: str, action: str) -> None:
    run = FakeRun()
    accounts = Accounts(write_etc(tmp_path), run)
    arguments = ((KEY,),) if action == "write_keys" else ()
    with pytest.raises(TerminalError) as refused:
        getattr(accounts, action)(name, *arguments)
    assert refused.value.reason == "Conflict"
    assert run.commands == []


@pytest.mark.parametrize("name", ["", "-x", "Alice", "a b", "a/../b", "a" * 33, "1a", "a\n", "ä"])
@pytest.mark.parametrize("action", ["ensure", "lock", "delete"])
def test_names_are_checked_first(tmp_path: Path, name: str, action: str) -> None:
    run = FakeRun()
    with pytest.raises(TerminalError) as refused:
        getattr(Accounts(write_etc(tmp_path), run), action)(name)
    assert (refused.value.reason, run.commands) == ("InvalidName", [])


def test_an_account_that_shares_its_id_is_not_locked(tmp_path: Path) -> None:
    run = FakeRun()
    settings = write_etc(tmp_path, passwd="+" + jump_line("alice", 1000), shadow=GOOD_SHADOW)
    with pytest.raises(TerminalError, match="shares its user id 1000 with admin"):
        Accounts(settings, run).lock("alice")
    assert run.commands == []


def test_locking_and_deleting_what_is_gone_is_no_error(tmp_path: Path) -> None:
    run = FakeRun()
    accounts = Accounts(write_etc(tmp_path), run)
    accounts.write_keys("alice", (KEY,))
    accounts.lock("alice")
    accounts.delete("alice")
    assert (run.commands, accounts.observe()[1]) == ([], frozenset())


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (1, RetryableError, "AccountToolFailed"),
        (8, RetryableError, "AccountBusy"),
        (3, TerminalError, "AccountToolFailed"),
    ],
)
def test_exit_codes_have_a_meaning(tmp_path: Path, code: int, kind: type[HostError], reason: str) -> None:
    run = FakeRun(lambda _args: Completed(code, "", "useradd: something"))
    with pytest.raises(kind) as failed:
        Accounts(write_etc(tmp_path), run).ensure("alice")
    assert failed.value.reason == reason
    assert "useradd: something" in str(failed.value)


def test_a_lock_is_waited_for_and_its_holder_named(tmp_path: Path) -> None:
    run = FakeRun(lambda _args: Completed(1, "", "useradd: cannot lock /etc/passwd; try again later."))
    settings = write_etc(tmp_path)
    (settings.etc / "passwd.lock").write_text(str(os.getpid()))
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        time.sleep(0.05)

    accounts = Accounts(settings, run, patience=0.3, sleep=nap)
    with pytest.raises(RetryableError, match=f"process {os.getpid()}") as failed:
        accounts.ensure("alice")
    assert failed.value.reason == "PasswdLocked"
    assert len(run.commands) == len(naps) + 1 > 2


# -- key files


def test_keys_are_replaced_and_removed(tmp_path: Path) -> None:
    settings = write_etc(tmp_path, passwd="+" + jump_line("alice"), shadow=GOOD_SHADOW)
    accounts = Accounts(settings, FakeRun())
    accounts.write_keys("alice", (KEY, "ssh-rsa BBBB"))
    file = settings.jump_keys / "alice"
    assert file.read_text() == f"{KEY}\nssh-rsa BBBB\n"
    assert (file.stat().st_mode & 0o7777, settings.jump_keys.stat().st_mode & 0o7777) == (0o644, 0o755)
    assert accounts.observe()[0]["alice"].keys == (KEY, "ssh-rsa BBBB")
    accounts.write_keys("alice", ())
    assert accounts.observe()[0]["alice"].keys is None


def test_a_file_without_account_is_an_orphan(tmp_path: Path) -> None:
    accounts = Accounts(write_etc(tmp_path), FakeRun())
    accounts.write_keys("bob", (KEY,))
    assert accounts.observe()[1] == {"bob"}


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    folder, secret = tmp_path / "keys", tmp_path / "secret"
    folder.mkdir(mode=0o755)
    secret.write_text("untouched")
    (folder / "alice").symlink_to(secret)
    (folder / ".alice.new").symlink_to(secret)
    assert read_all_keys(folder) == {"alice": (UNSAFE,)}
    write_keys_file(folder, "alice", (KEY,))
    assert secret.read_text() == "untouched"
    assert read_all_keys(folder) == {"alice": (KEY,)}
    assert not (folder / "alice").is_symlink()


def test_a_hard_link_is_not_written_through(tmp_path: Path) -> None:
    folder, other = tmp_path / "keys", tmp_path / "other"
    folder.mkdir(mode=0o755)
    other.write_text(f"{KEY}\n")
    (folder / "alice").hardlink_to(other)
    assert read_all_keys(folder) == {"alice": (UNSAFE,)}
    write_keys_file(folder, "alice", (KEY,))
    assert other.stat().st_nlink == 1


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o600])
def test_a_file_that_others_write_or_sshd_cannot_read_counts_as_wrong(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "keys"
    write_keys_file(folder, "alice", (KEY,))
    (folder / "alice").chmod(mode)
    assert read_all_keys(folder) == {"alice": (UNSAFE,)}
    write_keys_file(folder, "alice", (KEY,))
    assert read_all_keys(folder) == {"alice": (KEY,)}


def test_a_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    folder.chmod(0o775)
    with pytest.raises(TerminalError) as refused:
        write_keys_file(folder, "alice", (KEY,))
    assert refused.value.reason == "UnsafeFolder"


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "keys").symlink_to(tmp_path / "real")
    with pytest.raises(TerminalError, match="a link"):
        write_keys_file(tmp_path / "keys", "alice", (KEY,))
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.parametrize("line", ["", "a\nb", "a\0b", "a\rb"])
def test_a_key_is_one_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(TerminalError) as refused:
        write_keys_file(tmp_path / "keys", "alice", (line,))
    assert refused.value.reason == "InvalidKey"


def test_unchanged_files_are_not_read_again_but_changed_ones_are(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    write_keys_file(folder, "alice", (KEY,))
    known: Known = {"alice": ((1, 2, 3, 4), ("stale",))}
    assert read_all_keys(folder, known) == {"alice": (KEY,)}
    status = (folder / "alice").stat()
    same = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    known = {"alice": (same, ("as it was read",)), "gone": (same, ())}
    assert read_all_keys(folder, known) == {"alice": ("as it was read",)}
    assert set(known) == {"alice"}


def test_three_hundred_accounts_are_read_quickly(tmp_path: Path) -> None:
    names = [f"user-{number}" for number in range(300)]
    settings = write_etc(
        tmp_path,
        passwd="+" + "".join(jump_line(name, 2000 + number) for number, name in enumerate(names)),
        shadow="+" + "".join(f"{name}:*:19000:0:99999:7:::\n" for name in names),
    )
    for name in names:
        write_keys_file(settings.jump_keys, name, (KEY,))
    accounts = Accounts(settings, FakeRun())
    best = min(_seconds(accounts) for _ in range(5))
    assert best < 0.05  # 4 ms where nothing else runs


def _seconds(accounts: Accounts) -> float:
    started = time.perf_counter()
    accounts.observe()
    return time.perf_counter() - started


# -- stale locks


def _lock(etc: Path, text: str, *, age: float = 60, name: str = "passwd.lock") -> Path:
    path = etc / name
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.mark.parametrize("text", ["", "\n", "12\n", "garbage", "999999999", "1x"])
def test_what_a_killed_tool_leaves_is_stale(tmp_path: Path, text: str) -> None:
    path = _lock(tmp_path, text)
    assert stale_locks(tmp_path) == ["passwd.lock"]
    assert remove_stale_locks(tmp_path) == ["passwd.lock"]
    assert not path.exists()


def test_a_running_owner_keeps_its_lock(tmp_path: Path) -> None:
    path = _lock(tmp_path, str(os.getpid()), age=-1)
    assert remove_stale_locks(tmp_path) == []
    assert path.exists()
    assert lock_file_owners(tmp_path) == {"passwd.lock": os.getpid()}


def test_a_number_that_a_younger_process_got_is_stale(tmp_path: Path) -> None:
    _lock(tmp_path, f"{os.getpid()}\0", age=10 * 365 * 86400, name="gshadow.lock")
    assert remove_stale_locks(tmp_path) == ["gshadow.lock"]


def test_an_empty_file_may_still_be_written(tmp_path: Path) -> None:
    assert _lock(tmp_path, "", age=0).exists()
    assert remove_stale_locks(tmp_path) == []


def test_a_file_that_somebody_holds_is_not_stale(tmp_path: Path) -> None:
    path = _lock(tmp_path, "")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert remove_stale_locks(tmp_path) == []


def test_nothing_is_removed_while_others_hold_the_real_lock(tmp_path: Path) -> None:
    _lock(tmp_path, "")
    hold = "f=open(sys.argv[1],'w');fcntl.lockf(f,fcntl.LOCK_EX);print('held',flush=True);sys.stdin.read()"
    holder = subprocess.Popen(
        ["python3", "-c", f"import fcntl,sys;{hold}", str(tmp_path / ".pwd.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert remove_stale_locks(tmp_path) == []
        holder.kill()
    assert remove_stale_locks(tmp_path) == ["passwd.lock"]


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    (tmp_path / "passwd.lock").symlink_to(target)
    assert remove_stale_locks(tmp_path) == []
    assert target.exists()


def test_roots_processes_are_never_ended() -> None:
    with pytest.raises(ValueError, match="root"):
        end_processes(0, lambda: True)


def test_files_are_read_whole(tmp_path: Path) -> None:
    files = read_account_files(write_etc(tmp_path, passwd="+" + jump_line("alice")).etc)
    assert files.group_ids["containarium-jump"] == 993
    assert files.member_of["admin"] == {"sudo"}
