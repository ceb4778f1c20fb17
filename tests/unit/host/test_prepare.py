"""Preparation: what is derived from the machine, what is remembered, what is refused."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from containarium.host import approvals
from containarium.host.command import Completed
from containarium.host.filelock import locked
from containarium.host.firewall import Firewall, firewall_file, rules, units
from containarium.host.incus import Incus
from containarium.host.lock import only_controller
from containarium.host.prepare import network, receipt_path, storage, unprepare
from containarium.host.prepare.access import folders, jail
from containarium.host.prepare.kernel import subordinate_ids, sysctls
from containarium.host.prepare.packages import apt_sources, backports_source
from containarium.host.prepare.receipt import Made, Receipt
from containarium.host.prepare.steps import Context
from containarium.host.prepare.undo import undo
from containarium.model.host import RetryableError, TerminalError, silent
from containarium.plan.decision import Interlock, Suspicion
from tests.builders import NOW
from tests.unit.host.etcfiles import FakeRun, jump_line, settings, write_etc

DEB822 = """# comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main
"""


def _context(tmp_path: Path, run: FakeRun | None = None) -> Context:
    host = settings(tmp_path)
    return Context(host, run or FakeRun(), Incus(host), Receipt(tmp_path / "state" / "prepared.json"), silent, False)


# -- packages


def test_backports_come_from_the_machines_own_mirror() -> None:
    assert backports_source({"debian.sources": DEB822}, "bookworm") == (
        "containarium-backports.sources",
        """# Written by containarium: Incus for this release.
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
""",
    )


@pytest.mark.parametrize(
    ("line", "derived"),
    [
        (
            "deb http://mirror.example/debian bookworm main contrib",
            "deb http://mirror.example/debian bookworm-backports main",
        ),
        (
            "deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/d/ bookworm main",
            "deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/d/ bookworm-backports main",
        ),
        (
            "deb\t[trusted=yes]  mirror+file:///etc/apt/mirrors/debian.list  bookworm  main",
            "deb\t[trusted=yes]  mirror+file:///etc/apt/mirrors/debian.list bookworm-backports main",
        ),
    ],
)
def test_backports_from_the_classic_format(line: str, derived: str) -> None:
    text = (
        f"# deb http://old.example/debian bookworm main\ndeb-src http://mirror.example/debian bookworm main\n{line}\n"
    )
    found = backports_source({"sources.list": text}, "bookworm")
    assert found is not None
    assert found[0] == "containarium-backports.list"
    assert found[1].splitlines()[1] == derived


def test_several_lines_of_suites() -> None:
    text = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n bookworm-updates\nComponents: main\n"
    found = backports_source({"x.sources": text}, "bookworm")
    assert found is not None
    assert "Suites: bookworm-backports\nComponents" in found[1]


def test_a_key_written_into_the_source_is_kept() -> None:
    key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINB\n -----END PGP PUBLIC KEY BLOCK-----\n"
    text = f"Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n{key}"
    found = backports_source({"x.sources": text}, "bookworm")
    assert found is not None
    assert found[1].endswith(key)


@pytest.mark.parametrize(
    ("sources", "codename"),
    [
        ({"debian.sources": DEB822}, "trixie"),
        ({"debian.sources": DEB822}, ""),
        ({"a.sources": DEB822, "b.list": "deb http://mirror.example/debian bookworm-backports main"}, "bookworm"),
        ({"a.sources": DEB822.replace("bookworm-updates", "bookworm-backports")}, "bookworm"),
        ({"a.sources": f"Enabled: no\n{DEB822}"}, "bookworm"),
        ({"a.list": "deb http://other.example/apt stable main"}, "bookworm"),
        ({}, "bookworm"),
    ],
)
def test_no_source_is_added(sources: dict[str, str], codename: str) -> None:
    assert backports_source(sources, codename) is None


def test_only_files_that_apt_reads(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    for name in ("sources.list.d/a.list", "sources.list.d/b.sources", "sources.list.d/c.sources.disabled", "other"):
        (tmp_path / name).write_text("x")
    assert set(apt_sources(tmp_path)) == {"a.list", "b.sources"}


# -- network


def test_overlap_names_a_free_subnet() -> None:
    taken = {IPv4Network("10.0.3.128/25"): "eth0", IPv4Network("10.0.1.0/24"): "lan"}
    with pytest.raises(TerminalError, match=r"through eth0.*--subnet 10\.0\.2\.1/24") as refused:
        network.refuse_overlap(IPv4Interface("10.0.3.1/24"), taken)
    assert refused.value.reason == "SubnetTaken"
    network.refuse_overlap(IPv4Interface("10.0.4.1/24"), taken)


def test_when_all_of_ten_is_taken() -> None:
    assert network.free_subnet([IPv4Network("10.0.0.0/8")], 24) == "172.16.1.1/24"


@pytest.mark.parametrize(
    ("subnet", "left"),
    [
        ("10.0.3.0/24", "10.0.3.223-10.0.3.254"),
        ("10.1.0.0/16", "10.1.223.255-10.1.255.254"),
        ("10.0.3.0/29", "10.0.3.6-10.0.3.6"),
    ],
)
def test_who_has_no_address_of_its_own_gets_the_end_of_the_subnet(subnet: str, left: str) -> None:
    assert network.strangers(IPv4Network(subnet)) == left


def test_networks_in_use(tmp_path: Path) -> None:
    addresses = [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "eth0", "addr_info": [{"local": "192.0.2.7", "prefixlen": 24}]},
    ]
    routes = [
        {"dst": "default", "dev": "eth0"},
        {"dst": "10.8.0.0/16", "dev": "wg0"},
        {"type": "broadcast", "dst": "192.0.2.255", "dev": "eth0"},
        {"dst": "198.51.100.9", "dev": "eth0"},
    ]
    run = FakeRun(lambda args: Completed(0, json.dumps(addresses if "addr" in args else routes), ""))
    found = network.networks_in_use(_context(tmp_path, run))
    assert {str(net): device for net, device in found.items()} == {
        "192.0.2.0/24": "eth0",
        "10.8.0.0/16": "wg0",
        "198.51.100.9/32": "eth0",
    }


# -- storage


@pytest.mark.parametrize(("free", "size"), [(100, 50), (10, 5), (9, None), (0, None)])
def test_a_loop_file_takes_half_of_what_is_free(free: int, size: int | None) -> None:
    assert storage.loop_size(free << 30) == size


@pytest.mark.parametrize(
    ("code", "out", "works"), [(0, "Qgroupid    Referenced\n", True), (1, "", False), (0, "", False)]
)
def test_quotas(tmp_path: Path, code: int, out: str, works: bool) -> None:
    assert storage.quotas_work(FakeRun(lambda _args: Completed(code, out, "")), tmp_path) is works


# -- kernel


def test_sysctls_are_raised_never_lowered(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    values = {"fs/inotify/max_user_instances": "128", "kernel/keys/maxkeys": "5000", "net/ipv4/ip_forward": "0"}
    for name, value in values.items():
        (proc / name).parent.mkdir(parents=True, exist_ok=True)
        (proc / name).write_text(f"{value}\n")
    context = _context(tmp_path)
    step = sysctls(context, proc)
    assert step.changed
    assert (proc / "fs/inotify/max_user_instances").read_text() == "1048576\n"
    assert (proc / "kernel/keys/maxkeys").read_text() == "5000\n"
    assert (context.settings.etc / "sysctl.d/60-containarium.conf").read_text().count("=") == 4
    assert not sysctls(context, proc).changed


def test_root_keeps_the_ids_it_has(tmp_path: Path) -> None:
    write_etc(tmp_path, subuid="root:500000:65536\n", subgid="")
    run = FakeRun()
    context = _context(tmp_path, run)
    assert subordinate_ids(context).changed
    assert run.commands == [["usermod", "--add-subgids", "1000000-1000999999", "--", "root"]]
    assert context.receipt.holds("subordinate ids", "subgid")


# -- firewall, access

SUBNET = IPv4Network("10.0.3.0/24")


def test_the_table_replaces_itself_in_one_go(tmp_path: Path) -> None:
    text = rules(settings(tmp_path), SUBNET)
    head = [line for line in text.splitlines() if line.startswith(("table", "delete"))]
    assert head == [
        *("table inet containarium", "delete table inet containarium", "table inet containarium {"),
        *("table bridge containarium", "delete table bridge containarium", "table bridge containarium {"),
        *("table inet containarium-fleet", "delete table inet containarium-fleet"),
    ]
    assert text.count('iifname != "incusbr0" accept') == 2
    assert "169.254.0.0/16" in text


def test_in_force_only_for_our_bridge(tmp_path: Path) -> None:
    listed = rules(settings(tmp_path), SUBNET)
    assert Firewall(settings(tmp_path), FakeRun(lambda _args: Completed(0, listed, ""))).in_force()
    other = listed.replace("incusbr0", "br9")
    assert not Firewall(settings(tmp_path), FakeRun(lambda _args: Completed(0, other, ""))).in_force()
    assert not Firewall(settings(tmp_path), FakeRun(lambda _args: Completed(1, "", "No such file"))).in_force()


def test_restore_acts_only_where_it_is_missing(tmp_path: Path) -> None:
    run = FakeRun(lambda args: Completed(1 if "list" in args else 0, "", ""))
    assert Firewall(settings(tmp_path), run).restore()
    assert run.commands[-1] == ["/usr/sbin/nft", "-f", str(firewall_file(settings(tmp_path)))]


def test_every_address_has_one_port_and_one_hardware_address(tmp_path: Path) -> None:
    text = rules(settings(tmp_path), SUBNET)
    assert '"cnt-0a000302" . 02:63:0a:00:03:02' in text
    assert '"cnt-0a0003fe" . 02:63:0a:00:03:fe' in text
    assert text.count('"cnt-0a0003') == 254


def test_nftables_service_loads_it_again_after_its_flush(tmp_path: Path) -> None:
    host = settings(tmp_path)
    addition = units(host)["nftables.service.d/containarium.conf"]
    assert f"ExecStartPost=-/usr/sbin/nft -f {firewall_file(host)}" in addition
    assert f"ExecReload=-/usr/sbin/nft -f {firewall_file(host)}" in addition


def test_jail_uses_numbers_and_the_journal_where_it_can() -> None:
    assert "port = 22,2222\nbackend = systemd\n" in jail("22,2222", journal=True)
    assert "backend = auto\n" in jail("22", journal=False)


def test_folders_have_their_modes_whatever_the_umask(tmp_path: Path) -> None:
    context = _context(tmp_path)
    assert folders(context).changed
    host = context.settings
    modes = [path.stat().st_mode & 0o7777 for path in (host.manifests, host.jump_keys, host.state, host.runtime)]
    assert modes == [0o755, 0o755, 0o700, 0o755]
    assert not folders(context).changed


# -- receipt, undo


def test_what_runs_have_left_in_the_runtime_folder_goes_with_it(tmp_path: Path) -> None:
    write_etc(tmp_path)
    context = _context(tmp_path)
    folders(context)
    runtime = context.settings.runtime
    with only_controller(runtime), only_controller(runtime / "restore"):
        approvals.approve(runtime, Interlock(Suspicion.BUDGET, "", "", ("alice",)), "retire", NOW)
    (runtime / "probe" / "killed").mkdir(parents=True)
    assert [step.warning for step in undo(context)] == [""] * 6
    assert not runtime.exists()


def test_the_receipt_is_merged_over_runs(tmp_path: Path) -> None:
    path = tmp_path / "state" / "prepared.json"
    first = Receipt(path)
    first.add("pool", "default")
    first.add("setting", "x", "old")
    second = Receipt(path)
    second.add("bridge", "incusbr0")
    second.add("setting", "x", "newer: the first value is what it was before us")
    assert list(Receipt(path)) == [Made("pool", "default"), Made("setting", "x", "old"), Made("bridge", "incusbr0")]
    assert path.stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2, "made": []}', '{"version": 1, "made": [{}]}'])
def test_a_receipt_that_makes_no_sense_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "prepared.json").write_text(text)
    with pytest.raises(TerminalError) as refused:
        Receipt(tmp_path / "prepared.json")
    assert refused.value.reason == "ReceiptUnreadable"


def test_what_was_there_before_is_not_ours(tmp_path: Path) -> None:
    context = _context(tmp_path)
    path = tmp_path / "etc" / "theirs"
    path.parent.mkdir()
    path.write_text("theirs")
    assert context.write(path, "changed by us")
    assert not context.receipt.holds("file", str(path))


def test_undo_takes_back_what_is_unchanged(tmp_path: Path) -> None:
    write_etc(tmp_path)
    context = _context(tmp_path)
    folders(context)
    kept, changed = context.settings.etc / "sysctl.d" / "a.conf", context.settings.etc / "sysctl.d" / "b.conf"
    context.write(kept, "ours")
    context.write(changed, "ours")
    changed.write_text("somebody's")
    (context.settings.manifests / "alice.yaml").write_text("kind: Environment")
    steps = {step.name: step for step in undo(context)}
    assert not kept.exists()
    assert changed.read_text() == "somebody's"
    assert "somebody changed it" in steps[f"file {changed}"].warning
    assert "alice.yaml" in steps[f"folder {context.settings.manifests}"].warning
    assert not context.settings.jump_keys.exists()
    assert context.receipt.holds("file", str(changed))
    assert not context.receipt.holds("file", str(kept))


def test_undo_refuses_while_accounts_exist(tmp_path: Path) -> None:
    write_etc(tmp_path, passwd="+" + jump_line("alice"), shadow="+alice:*:1:0:99999:7:::\n")
    context = _context(tmp_path)
    folders(context)
    with pytest.raises(TerminalError, match="alice") as refused:
        undo(context)
    assert refused.value.reason == "EnvironmentsLeft"
    assert context.settings.jump_keys.is_dir()


def test_nothing_is_taken_back_while_a_preparation_runs(tmp_path: Path) -> None:
    host = settings(tmp_path)
    host.runtime.mkdir()
    Receipt(tmp_path / "state" / "prepared.json").add("incus folder", str(tmp_path / "none"))
    run = FakeRun()
    with locked(host.runtime / "prepare.lock", 0), pytest.raises(RetryableError) as refused:
        unprepare(host, patience=0.0, run=run)
    assert (refused.value.reason, run.commands) == ("PrepareRuns", [])


def test_what_another_preparation_has_made_meanwhile_is_taken_back_too(tmp_path: Path) -> None:
    host = write_etc(tmp_path)
    host.runtime.mkdir()
    Receipt(receipt_path(host)).add("admin", "ops")
    with ThreadPoolExecutor() as threads:
        with locked(host.runtime / "prepare.lock", 0):
            waiting = threads.submit(unprepare, host, run=FakeRun())
            time.sleep(0.2)
            Receipt(receipt_path(host)).add("admin", "vera")
        assert [step.name for step in waiting.result()] == ["admin vera", "admin ops"]
    assert not host.state.exists()
