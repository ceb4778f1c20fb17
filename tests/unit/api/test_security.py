"""Who gets in, who does not, and what they are told: over real sockets, with real certificates."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from containarium.api import certificates as x509
from containarium.api import registry
from containarium.api.client import Client, Target
from containarium.api.diagnosis import warning
from containarium.api.errors import told
from containarium.api.store import CertificateStore
from containarium.api.v1 import container_pb2 as pb
from containarium.api.v1 import controller_pb2 as cpb
from containarium.api.who import Role
from containarium.model.host import HostError
from tests.unit.api.conftest import YEAR, Site, utc

T = 10.0


def refusal(site: Site, folder: Path, server: str = "") -> HostError:
    """What a person is told whose connection does not come about."""
    client = site.keep(Client(Target.parse(server or site.address, folder)))
    with pytest.raises(HostError) as refused:
        client.ask("WhoAmI", cpb.WhoAmIRequest(), T)
    assert "\n" not in str(refused.value)
    return refused.value


def stranger(tmp_path: Path) -> Path:
    """Somebody with a good certificate of another authority, who knows ours."""
    other = CertificateStore(tmp_path / "other")
    other.generate(["localhost"], [], YEAR)
    return other.folder / "clients" / "admin"


def test_another_authoritys_client_is_refused(site: Site, tmp_path: Path) -> None:
    folder = stranger(tmp_path)
    shutil.copy(site.store.folder / "ca.crt", folder / "ca.crt")
    assert "your certificate is of another authority" in str(refusal(site, folder))


def test_another_authoritys_server_is_refused(site: Site, tmp_path: Path) -> None:
    said = str(refusal(site, stranger(tmp_path)))
    assert f"{site.address} has a certificate of another authority than your ca.crt" in said


def test_an_expired_client_is_refused(site: Site) -> None:
    old = CertificateStore(site.store.folder, lambda: utc() - 2 * YEAR)
    folder = old.issue("olga", Role.ADMIN, YEAR)
    assert "your certificate has expired on" in str(refusal(site, folder))


def test_an_expired_server_is_refused(site: Site) -> None:
    CertificateStore(site.store.folder, lambda: utc() - 2 * YEAR).renew("server", YEAR)
    time.sleep(1.1)  # the server looks at its files once in a second
    assert f"the certificate of {site.address} has expired" in str(
        refusal(site, site.store.folder / "clients" / "admin")
    )


def test_a_server_of_another_name_is_refused(site: Site) -> None:
    made = CertificateStore(site.store.folder)
    pair = x509.make_server(made._authority(), ["elsewhere.example"], [], utc(), YEAR)
    made._put_server(pair)
    time.sleep(1.1)
    said = str(refusal(site, site.store.folder / "clients" / "admin"))
    assert f"the certificate of {site.address} is not for the name 127.0.0.1" in said


def test_a_revoked_client_is_refused_at_once_also_on_an_open_connection(site: Site) -> None:
    client = site.client()
    assert client.ask("WhoAmI", cpb.WhoAmIRequest(), T).role == "admin"
    site.store.revoke("admin")
    time.sleep(1.1)
    with pytest.raises(HostError, match="the certificate of admin was revoked; ask an admin for a new one") as refused:
        client.ask("WhoAmI", cpb.WhoAmIRequest(), T)
    assert refused.value.reason == "CERTIFICATE_REVOKED"
    with site.channel() as channel, pytest.raises(grpc.RpcError) as other:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=T)
    assert other.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_client_of_the_authority_before_is_refused_on_an_open_connection(site: Site, tmp_path: Path) -> None:
    client, folder = site.client(), site.store.folder
    assert client.ask("WhoAmI", cpb.WhoAmIRequest(), T).role == "admin"
    before = (folder / "ca.crt").read_text()
    other = CertificateStore(tmp_path / "other")
    other.generate(["localhost"], [IPv4Address("127.0.0.1")], YEAR)
    for name in ("crl.pem", "server.key", "server.crt", "ca.crt"):
        shutil.copy(other.folder / name, folder / name)
    time.sleep(1.1)
    with pytest.raises(HostError, match="of another authority than this server's is now; ask an admin") as refused:
        client.ask("WhoAmI", cpb.WhoAmIRequest(), T)
    assert refused.value.reason == "OTHER_AUTHORITY"
    new = other.folder / "clients" / "admin"
    assert site.keep(Client(Target.parse(site.address, new))).ask("WhoAmI", cpb.WhoAmIRequest(), T).name == "admin"
    # While both are in ca.crt, both count.
    (folder / "ca.crt").write_text((other.folder / "ca.crt").read_text() + before)
    time.sleep(1.1)
    assert client.ask("WhoAmI", cpb.WhoAmIRequest(), T).role == "admin"


def test_a_renewed_authority_knows_its_clients(site: Site) -> None:
    client = site.client()
    assert client.ask("WhoAmI", cpb.WhoAmIRequest(), T).role == "admin"
    site.store.renew("ca")
    time.sleep(1.1)
    assert client.ask("WhoAmI", cpb.WhoAmIRequest(), T).role == "admin"


def test_a_broken_revocation_list_lets_nobody_back_in(site: Site) -> None:
    site.store.revoke("admin")
    time.sleep(1.1)
    site.tls.current()  # type: ignore[union-attr]
    (site.store.folder / "crl.pem").write_text("nonsense")
    time.sleep(1.1)
    with pytest.raises(HostError, match="was revoked"):
        site.client().ask("WhoAmI", cpb.WhoAmIRequest(), T)
    assert site.log.said("new certificates not taken over")


def test_a_viewer_looks_and_changes_nothing(site: Site) -> None:
    viewer = site.client("vera")
    assert viewer.ask("ListContainers", pb.ListContainersRequest(), T, original=True).total_count == 0
    for service in registry.SERVICES:
        for method in service.methods:
            rule = registry.RULES[service.name][method.name]
            if rule.role is not Role.ADMIN:
                continue
            with site.channel("vera") as channel:
                call = registry.caller(channel, service, method.name)
                with pytest.raises(grpc.RpcError) as refused:
                    list(call(_empty(method), timeout=T))
            found = told(refused.value)
            assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_TOO_LOW"), method.name
    assert {about["result"] for _, _, about in site.audited} == {"refused"}


def test_plaintext_is_spoken_nowhere(site: Site) -> None:
    with grpc.insecure_channel(site.address) as channel, pytest.raises(grpc.RpcError) as refused:
        registry.caller(channel, registry.CONTAINERS, "ListContainers")(pb.ListContainersRequest(), timeout=3)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    with socket.create_connection(_pair(site.address), 5) as raw:
        raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        raw.settimeout(5)
        answered = raw.recv(100)
        assert not answered or answered[:1] == b"\x15", "anything but a TLS alert"


def test_a_server_without_tls_is_told_from_one_with(site: Site) -> None:
    from concurrent.futures import ThreadPoolExecutor

    plain = grpc.server(ThreadPoolExecutor(1))
    port = plain.add_insecure_port("127.0.0.1:0")
    plain.start()
    try:
        said = str(refusal(site, site.store.folder / "clients" / "admin", f"127.0.0.1:{port}"))
    finally:
        plain.stop(0)
    assert said.startswith(f"127.0.0.1:{port} does not speak TLS")


def test_without_a_certificate_nobody_gets_in(site: Site) -> None:
    credentials = grpc.ssl_channel_credentials((site.store.folder / "ca.crt").read_bytes())
    with grpc.secure_channel(site.address, credentials) as channel, pytest.raises(grpc.RpcError) as refused:
        registry.caller(channel, registry.CONTAINERS, "ListContainers")(pb.ListContainersRequest(), timeout=3)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_servers_certificate_is_no_clients(site: Site) -> None:
    folder = site.store.folder
    texts = [(folder / name).read_bytes() for name in ("ca.crt", "server.key", "server.crt")]
    with grpc.secure_channel(site.address, grpc.ssl_channel_credentials(*texts)) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            registry.caller(channel, registry.CONTAINERS, "ListContainers")(pb.ListContainersRequest(), timeout=3)
        assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)


def test_nobody_there_and_no_such_files(site: Site, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    assert "nobody listens on" in str(refusal(site, site.store.folder / "clients" / "admin", f"127.0.0.1:{free}"))
    with pytest.raises(HostError, match=r"cannot read .*ca\.crt.*--certs-dir"):
        Client(Target.parse("127.0.0.1:1", tmp_path))


def test_renewal_needs_no_restart(site: Site) -> None:
    before = _served(site)
    site.store.renew("server")
    time.sleep(1.1)
    assert _served(site) != before
    assert site.client().ask("WhoAmI", cpb.WhoAmIRequest(), T).name == "admin"


def test_a_certificate_that_ends_soon_is_warned_of(site: Site) -> None:
    folder = site.store.issue("short", Role.ADMIN, timedelta(days=10))
    assert "Your certificate ends on" in warning(folder)
    assert warning(site.store.folder / "clients" / "admin") == ""
    site.store.renew("server", timedelta(days=3))
    time.sleep(1.1)
    site.tls.current()  # type: ignore[union-attr]
    (line,) = site.log.said("certificate ends soon")
    assert line["certificate"] == "server"


# The unix socket


def test_the_socket_is_for_root_and_the_group(site: Site) -> None:
    path = site.settings.runtime / "api.sock"
    assert path.stat().st_mode & 0o007 == 0
    assert (site.settings.runtime / ".api.sock.private").stat().st_mode & 0o777 == 0o700
    assert site.local().ask("WhoAmI", cpb.WhoAmIRequest(), T).role == "admin"


def test_what_the_kernel_says_of_the_peer_is_what_counts(site: Site) -> None:
    """Even where the file's mode would let somebody in, who they are is asked of the kernel."""
    path = site.settings.runtime / "api.sock"
    for folder in (path, *path.parents):
        if folder == Path("/tmp"):
            break
        folder.chmod(folder.stat().st_mode | 0o007)
    script = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1])\n"
        "s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n')\n"
        "print(s.recv(100))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.strip() == "b''" or "ConnectionResetError" in done.stderr or "BrokenPipe" in done.stderr, done
    assert [line["uid"] for line in site.log.said("refused")] == [65534]


def test_the_inner_socket_knows_nobody(site: Site) -> None:
    inner = site.settings.runtime / ".api.sock.private" / "grpc.sock"
    with grpc.insecure_channel(f"unix:{inner}") as channel, pytest.raises(grpc.RpcError) as refused:
        registry.caller(channel, registry.CONTAINERS, "ListContainers")(pb.ListContainersRequest(), timeout=T)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


# Standard services


def test_reflection_and_health_are_on(site: Site) -> None:
    with site.channel("vera") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "containarium.v1.ContainerService", "containarium.v1.ControllerService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=T)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=T)
        names = {service.name for service in answer.list_services_response.service}
        assert {"containarium.v1.ContainerService", "containarium.v1.ControllerService"} <= names
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="containarium.v1.ContainerService")
        (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=T)
        assert answer.file_descriptor_response.file_descriptor_proto


def _empty(method: object) -> object:
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(method.input_type)()  # type: ignore[attr-defined]


def _pair(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _served(site: Site) -> str:
    import ssl

    folder = site.store.folder / "clients" / "admin"
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "client.crt", folder / "client.key")
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(_pair(site.address), 5) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped,
    ):
        return (wrapped.getpeercert(binary_form=True) or b"").hex()
