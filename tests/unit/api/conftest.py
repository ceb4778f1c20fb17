"""A whole server on real sockets, over a simulated host and a controller that carries out what it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import grpc
import pytest

from containarium.api.client import Client, Target
from containarium.api.containers import Containers
from containarium.api.controller import Controller
from containarium.api.errands import Errands
from containarium.api.operations import Operations
from containarium.api.server import Limits, Server
from containarium.api.store import CertificateStore
from containarium.api.tls import Tls
from containarium.api.who import Role, Who
from containarium.cli.remote_server import operations_on
from containarium.cli.wiring import Wiring
from containarium.host.approvals import read as approvals
from containarium.host.control import ControlServer
from containarium.host.figures import Figures
from containarium.host.meter import System, Usage
from containarium.host.settings import HostSettings
from containarium.model.host import Host
from containarium.reconcile.cycle import Settings, converge
from containarium.report import statusfile
from containarium.report.process import this_process
from containarium.report.snapshot import Snapshot
from containarium.report.status import build
from containarium.simulate.host import SimulatedHost
from containarium.simulate.world import World
from containarium.sources.directory import load
from tests.unit.cli.conftest import FakeHostKeys


def _not_here(*_given: object, **_more: object) -> NoReturn:
    raise AssertionError("that would have touched the machine that the tests run on")


YEAR = timedelta(days=365)


def utc() -> datetime:
    """Now."""
    return datetime.now(UTC)


@dataclass
class FakeLog:
    """Keeps what was said."""

    lines: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def debug(self, event: str, **values: Any) -> None:
        """Keep it."""
        self.lines.append(("debug", event, values))

    def info(self, event: str, **values: Any) -> None:
        """Keep it."""
        self.lines.append(("info", event, values))

    def warning(self, event: str, **values: Any) -> None:
        """Keep it."""
        self.lines.append(("warning", event, values))

    def error(self, event: str, **values: Any) -> None:
        """Keep it."""
        self.lines.append(("error", event, values))

    def said(self, event: str) -> list[dict[str, Any]]:
        """The values of every line with this message."""
        return [values for _, message, values in self.lines if message == event]


@dataclass
class FakeMeter:
    """Figures that a test chose."""

    figures: tuple[Usage, ...] = ()

    def usage(self, name: str = "") -> tuple[Usage, ...]:
        """Of one, or all."""
        return tuple(each for each in self.figures if name in ("", each.instance.removesuffix("-container")))

    def system(self) -> System:
        """A host."""
        return System("6.0.4", "Debian 12", "6.1.0", 8, 32 << 30, 16 << 30, 1 << 40, 1 << 39, "jump-1", 3600)


class SimulatedController:
    """Makes the host as declared whenever it is asked, and writes a status, as the real one does."""

    def __init__(self, wired: Wiring) -> None:
        self._wired = wired
        self._lock = threading.Lock()
        self.passes = 0
        self.hold = threading.Event()
        """While it is not set, nothing is carried out."""
        self.hold.set()
        self._server = ControlServer(wired.settings.control, self._answer)

    def close(self) -> None:
        """End it, and what it wrote with it."""
        self.hold.set()
        self._server.close()
        self._wired.settings.status.unlink(missing_ok=True)

    def look(self) -> None:
        """One pass."""
        settings, wired = self._wired.settings, self._wired
        with self._lock:
            self.passes += 1
            started = utc()
            found = load(settings.manifests)
            host = wired.host(settings)
            result = converge(found, host, wired.clock, Settings(frozenset(approvals(settings.runtime, started))))
            snapshot = Snapshot(
                f"pass-{self.passes}", ("request",), started, 0.01,
                load=found, observed=result.observed, plan=result.last, last_success=started,
            )  # fmt: skip
            statusfile.write(build(snapshot, statusfile.read(settings.status), this_process()), settings.status)

    def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.hold.wait(30)
        self.look()
        return {"pass": f"pass-{self.passes}", "settled": True, "error": ""}


@dataclass
class Site:
    """A host with its service. ``folder`` holds the certificates, ``address`` is where it is served."""

    settings: HostSettings
    world: World
    store: CertificateStore
    wired: Wiring
    log: FakeLog
    audited: list[tuple[Who, str, Mapping[str, str]]]
    meter: FakeMeter
    controller: SimulatedController
    address: str = ""
    tls: Tls | None = None
    clients: list[Client] = field(default_factory=list)

    @property
    def unix(self) -> str:
        """The socket, as a server is named."""
        return f"unix:{self.settings.runtime / 'api.sock'}"

    def client(self, name: str = "admin") -> Client:
        """Somebody with a certificate."""
        return self.keep(Client(Target.parse(self.address, self.store.folder / "clients" / name)))

    def local(self) -> Client:
        """Somebody on this host."""
        return self.keep(Client(Target.parse(self.unix, Path())))

    def keep(self, client: Client) -> Client:
        """To be closed at the end."""
        self.clients.append(client)
        return client

    def channel(self, name: str = "admin") -> grpc.Channel:
        """As another program has it."""
        folder = self.store.folder / "clients" / name
        texts = [(folder / file).read_bytes() for file in ("ca.crt", "client.key", "client.crt")]
        return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(*texts))

    def manifest(self, name: str) -> str:
        """The file of an environment."""
        return (self.settings.manifests / f"{name}.yaml").read_text()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Give a folder with a short name: a socket's path has room for 107 characters."""
    with TemporaryDirectory(prefix="ct-") as folder:
        yield Path(folder)


@pytest.fixture
def certificates(tmp_path: Path) -> CertificateStore:
    """Give an authority, a server's certificate for 127.0.0.1, an admin and a viewer."""
    store = CertificateStore(tmp_path / "certs")
    store.generate(["localhost"], [IPv4Address("127.0.0.1")], YEAR)
    store.issue("vera", Role.VIEWER, YEAR)
    return store


Serve = Callable[..., Site]


@pytest.fixture
def serve(tmp_path: Path, certificates: CertificateStore) -> Iterator[Serve]:
    """Give a function that starts a server; all of them end with the test."""
    running: list[tuple[Server, Site]] = []

    def start(limits: Limits | None = None, operations: Callable[[Operations], Operations] = lambda o: o) -> Site:
        settings = HostSettings(
            incus_dir=tmp_path / "incus", incus_socket=tmp_path / "incus.sock", jump_keys=tmp_path / "keys",
            sshd_drop_in=tmp_path / "sshd.conf", etc=tmp_path / "etc", manifests=tmp_path / "environments",
            state=tmp_path / "state", runtime=tmp_path / "run",
        )  # fmt: skip
        for folder in (settings.manifests, settings.state, settings.runtime):
            folder.mkdir(exist_ok=True)
        world, log, meter = World(), FakeLog(), FakeMeter()
        audited: list[tuple[Who, str, Mapping[str, str]]] = []

        def host(_settings: HostSettings) -> Host:
            return SimulatedHost(world)

        # Whatever is not handed in here would be the real machine's.
        wired = Wiring(
            settings=settings, host=host, host_keys=lambda _: FakeHostKeys(), examine=lambda _: (),
            figures=lambda _settings, _instance: Figures(), clock=utc, is_root=lambda: True,
            trail=lambda *_told, **_more: True, prepare=_not_here, restorer=_not_here, suspension=_not_here,
            recipes=_not_here,
        )  # fmt: skip
        controller = SimulatedController(wired)
        controller.look()
        site = Site(settings, world, certificates, wired, log, audited, meter, controller)
        from dataclasses import replace

        made = operations(replace(operations_on(wired), meter=meter, errands=Errands(logger=log)))
        site.tls = Tls(certificates.folder, log, utc)
        server = Server(
            Containers(made), Controller(made), lambda *told: audited.append(told), log,
            unix=settings.runtime / "api.sock", address="127.0.0.1:0", tls=site.tls, limits=limits,
            errands=made.errands,
        )  # fmt: skip
        site.address = server.start()
        running.append((server, site))
        return site

    yield start
    for server, site in running:
        for client in site.clients:
            client.close()
        site.controller.close()
        server.stop(0.2, 5.0)


@pytest.fixture
def site(serve: Serve) -> Site:
    """Give a server as it is by default."""
    return serve()
