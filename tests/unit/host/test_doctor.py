"""doctor: every check has an answer, whatever is broken, and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containarium.host.command import Completed
from containarium.host.doctor import Finding, Level, access, examine, incus, kernel
from containarium.host.doctor.finding import Check, Patient, ok
from containarium.host.incus import Incus
from containarium.host.keyfiles import write_keys_file
from containarium.host.quotas import Subvolume
from containarium.host.settings import HostSettings
from containarium.host.sshd import drop_in_text, jump_directives
from containarium.model.host import TerminalError
from tests.unit.host.etcfiles import FakeRun, jump_line, settings, write_etc


class FakeIncus(Incus):
    """An Incus that answers from a dictionary, by path."""

    def __init__(self, host: HostSettings, answers: dict[str, Any]) -> None:
        super().__init__(host)
        self._answers = answers

    def get(self, *path: str, timeout: float | None = None, **params: str) -> Any:
        return self._answers.get("/".join(path))


def _look(
    check: Check,
    host: HostSettings,
    *,
    run: FakeRun | None = None,
    answers: dict[str, Any] | None = None,
    root: bool = True,
) -> dict[str, Finding]:
    patient = Patient(host, run or FakeRun(), FakeIncus(host, answers or {}), root, True)
    return {finding.check: finding for finding in check(patient)}


def _levels(found: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.level.value for name, finding in found.items()}


# -- Incus


def _pool(driver: str = "btrfs", *, used: int = 10, status: str = "Created") -> dict[str, Any]:
    pool = {"name": "default", "driver": driver, "status": status}
    return {
        "storage-pools": [pool],
        "storage-pools/default/resources": {"space": {"total": 100 << 30, "used": used << 30}},
    }


QUOTAS = FakeRun(lambda _args: Completed(0, "Qgroupid\n", ""))
MAY_NOT = FakeRun(lambda _args: Completed(1, "", "ERROR: can't list qgroups: Operation not permitted"))


@pytest.mark.parametrize(
    ("answers", "run", "levels"),
    [
        (_pool(), QUOTAS, {"pool": "ok", "space": "ok"}),
        (_pool("zfs"), FakeRun(), {"pool": "ok", "space": "ok"}),
        (_pool("dir"), FakeRun(), {"pool": "warn", "space": "ok"}),
        (_pool(), FakeRun(lambda _args: Completed(1, "", "quotas not enabled")), {"pool": "warn", "space": "ok"}),
        (_pool(), MAY_NOT, {"pool": "ok", "space": "ok"}),
        (_pool(status="Unavailable"), QUOTAS, {"pool": "fail", "space": "ok"}),
        (_pool(used=90), QUOTAS, {"pool": "ok", "space": "warn"}),
        (_pool(used=97), QUOTAS, {"pool": "ok", "space": "fail"}),
        ({"storage-pools": None}, QUOTAS, {"pool": "fail"}),
    ],
)
def test_pool(tmp_path: Path, answers: dict[str, Any], run: FakeRun, levels: dict[str, str]) -> None:
    assert _levels(_look(incus.pool, settings(tmp_path), run=run, answers=answers)) == levels


def test_who_may_not_see_the_account_of_space_does_not_say_that_there_is_none(tmp_path: Path) -> None:
    found = _look(incus.pool, settings(tmp_path), run=MAY_NOT, answers=_pool())["pool"]
    assert "cannot be seen from here" in found.message
    assert found.remedy == ""


@pytest.mark.parametrize(
    ("files", "kept"),
    [
        ({"qgroups/enabled": "1\n"}, True),
        ({"qgroups/enabled": "0\n"}, False),
        ({"qgroups/0_5": ""}, True),
        ({"label": ""}, False),
        ({}, None),
    ],
)
def test_sysfs_says_to_everybody_whether_space_is_accounted_for(
    tmp_path: Path, files: dict[str, str], kept: bool | None
) -> None:
    for name, text in files.items():
        path = tmp_path / "btrfs" / "id" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    run = FakeRun(lambda _args: Completed(1, "", "Operation not permitted"))
    host = settings(tmp_path)
    patient = Patient(host, run, FakeIncus(host, {}), True, True)
    found = incus.keeps_account(patient, "default", tmp_path / "btrfs", lambda _folder: Subvolume("id", 5))
    assert found is kept
    assert bool(run.commands) is (kept is None), "and no process where sysfs says it"


@pytest.mark.parametrize(("version", "level"), [("6.0.4", "ok"), ("6.12", "ok"), ("7.0", "ok"), ("5.21.1", "fail")])
def test_version(tmp_path: Path, version: str, level: str) -> None:
    found = _look(incus.incus, settings(tmp_path), answers={"": {"environment": {"server_version": version}}})
    assert _levels(found) == {"incus": level}


def test_docker_drops_what_is_forwarded(tmp_path: Path) -> None:
    def answer(args: list[str]) -> Completed:
        chain = "chain FORWARD { type filter hook forward priority 0; policy drop; }"
        return Completed(0, chain if args[-1] == "FORWARD" else "", "")

    found = _look(incus.firewall, settings(tmp_path), run=FakeRun(answer))
    assert _levels(found) == {"firewall": "fail", "forwarding": "fail"}
    assert "DOCKER-USER" in found["forwarding"].remedy


# -- kernel


@pytest.mark.parametrize(("count", "level"), [(0, "fail"), (65536, "warn"), (1000000000, "ok")])
def test_subordinate_ids(tmp_path: Path, count: int, level: str) -> None:
    line = f"root:1000000:{count}\n"
    host = write_etc(tmp_path, subuid=line, subgid=line)
    assert _levels(_look(kernel.subordinate_ids, host)) == {"subuid": level, "subgid": level}


# -- access


def _with_alice(tmp_path: Path, shadow: str = "alice:*:19000:0:99999:7:::", **files: str) -> HostSettings:
    host = write_etc(tmp_path, passwd="+" + jump_line("alice"), shadow=f"+{shadow}\n", **files)
    host.sshd_drop_in.parent.mkdir(parents=True)
    host.sshd_drop_in.write_text(drop_in_text(host))
    return host


def _shows(host: HostSettings, **changed: str) -> FakeRun:
    shown = {keyword.lower(): value for keyword, value in jump_directives(host).items()} | changed
    return FakeRun(lambda _args: Completed(0, "".join(f"{key} {value}\n" for key, value in shown.items()), ""))


def test_every_directive_holds(tmp_path: Path) -> None:
    host = _with_alice(tmp_path)
    assert _levels(_look(access.drop_in, host, run=_shows(host))) == {"sshd rules": "ok"}


def test_a_directive_that_another_file_decided(tmp_path: Path) -> None:
    host = _with_alice(tmp_path)
    found = _look(access.drop_in, host, run=_shows(host, allowtcpforwarding="yes"))
    assert found["sshd rules"].level is Level.FAIL
    assert "AllowTcpForwarding is yes" in found["sshd rules"].message


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"allowgroups": "staff"}, "AllowGroups leaves jump accounts out"),
        ({"allowusers": "root"}, "AllowUsers leaves alice out"),
        ({"denygroups": "containarium-jump"}, "shuts alice out"),
    ],
)
def test_lists_that_shut_jump_accounts_out(tmp_path: Path, changed: dict[str, str], says: str) -> None:
    host = _with_alice(tmp_path)
    assert says in _look(access.drop_in, host, run=_shows(host, **changed))["sshd lists"].message


def test_a_changed_or_missing_drop_in(tmp_path: Path) -> None:
    host = _with_alice(tmp_path)
    host.sshd_drop_in.write_text("Match all\n")
    assert _look(access.drop_in, host, run=_shows(host))["sshd drop-in"].level is Level.FAIL
    host.sshd_drop_in.unlink()
    assert "not confined" in _look(access.drop_in, host)["sshd drop-in"].message


@pytest.mark.parametrize(
    ("shadow", "files", "fault"),
    [
        ("alice:!:19000:0:99999:7:::", {}, "password is '!'"),
        ("alice::19000:0:99999:7:::", {}, "password is 'empty'"),
        ("alice:*:19000:0:99999:7:::", {"subuid": "alice:1:65536\n"}, "subordinate ids"),
        ("alice:*:19000:0:99999:7:::", {"group": "+incus-admin:x:990:alice\n"}, "incus-admin"),
    ],
)
def test_jump_accounts_with_a_fault(tmp_path: Path, shadow: str, files: dict[str, str], fault: str) -> None:
    found = _look(access.accounts, _with_alice(tmp_path, shadow, **files))
    assert found["jump accounts"].level is Level.FAIL
    assert fault in found["jump accounts"].message


def test_strangers_and_orphans(tmp_path: Path) -> None:
    host = write_etc(tmp_path, passwd="+" + jump_line("mallory", comment="Mallory"), shadow="+")
    write_keys_file(host.jump_keys, "ghost", ("ssh-ed25519 AAAA",))
    assert _levels(_look(access.accounts, host)) == {"jump accounts": "ok", "jump group": "warn", "jump keys": "warn"}


def test_stale_locks(tmp_path: Path) -> None:
    host = write_etc(tmp_path)
    assert _levels(_look(access.locks, host)) == {"account locks": "ok"}
    (host.etc / "shadow.lock").write_text("999999999")
    assert "shadow.lock" in _look(access.locks, host)["account locks"].message


def test_manifests_that_others_write(tmp_path: Path) -> None:
    host = settings(tmp_path)
    assert _look(access.manifests, host)["manifests"].level is Level.FAIL
    host.manifests.mkdir(parents=True, mode=0o755)
    assert _look(access.manifests, host)["manifests"].level is Level.OK
    host.manifests.chmod(0o777)
    assert _look(access.manifests, host)["manifests"].level is Level.WARN


def test_without_root_it_says_so(tmp_path: Path) -> None:
    host = _with_alice(tmp_path)
    assert _levels(_look(access.drop_in, host, root=False)) == {"sshd rules": "warn"}
    assert _levels(_look(incus.firewall, host, root=False)) == {"firewall": "warn"}


# -- all of it


def test_a_check_that_fails_is_a_finding(tmp_path: Path) -> None:
    def broken(_patient: Patient) -> Iterator[Finding]:
        yield ok("broken", "so far")
        raise TerminalError("it is on fire", remedy="put it out")

    def odd(_patient: Patient) -> Iterator[Finding]:
        raise KeyError("metadata")

    found = examine(settings(tmp_path), run=FakeRun(), checks=[broken, odd])
    assert [(f.check, f.level.value) for f in found] == [("broken", "ok"), ("broken", "fail"), ("odd", "fail")]
    assert found[1].remedy == "put it out"


def test_whatever_is_wrong_has_a_remedy_in_one_line(tmp_path: Path) -> None:
    for finding in examine(settings(tmp_path), run=FakeRun(lambda _args: Completed(1, "", "no"))):
        assert finding.level is Level.OK or finding.remedy
        assert "\n" not in finding.remedy + finding.message
