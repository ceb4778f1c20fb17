"""A prober for networks: one file, the standard library alone, so that it runs on any machine that has Python.

Tests put it on the host and run it there, in a guest's namespaces, or at the laptop. It answers in JSON.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ETH_P_ALL = 3
ETH_P_ARP = 0x0806
MARK = b"CTN-PROBE-"
"""What a frame must hold for the sniffer to note it."""


def connect(address: str, port: int, timeout: float) -> dict[str, Any]:
    """Connect over TCP and read what the other side says first."""
    started = time.monotonic()
    try:
        with socket.create_connection((address, port), timeout=timeout) as connection:
            connection.settimeout(timeout)
            try:
                said = connection.recv(256).decode(errors="replace").strip()
            except OSError:
                said = ""
            return {"result": "connected", "said": said}
    except OSError as error:
        why = "TimeoutError" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
        return {"result": why, "seconds": round(time.monotonic() - started, 2)}


def connect_unix(path: str, timeout: float) -> dict[str, Any]:
    """Connect to a unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(path)
        except OSError as error:
            return {"result": error.strerror}
        return {"result": "connected"}


def socks(proxy_port: int, address: str, port: int, timeout: float) -> dict[str, Any]:
    """Ask a SOCKS5 proxy on the loopback for a connection; 0 is granted."""
    with socket.create_connection(("127.0.0.1", proxy_port), timeout=timeout) as connection:
        connection.settimeout(timeout)
        connection.sendall(b"\x05\x01\x00")
        connection.recv(2)
        name = address.encode()
        connection.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack(">H", port))
        reply = connection.recv(10)
        return {"result": "granted" if len(reply) > 1 and reply[1] == 0 and _alive(connection) else "refused"}


def _alive(connection: socket.socket) -> bool:
    """OpenSSH grants at once and hangs up when the server refuses: only a byte from the far side counts."""
    try:
        return connection.recv(1) != b""
    except OSError:
        return False


def listen(places: list[str], log: str) -> None:
    """Listen on TCP and UDP at every ADDRESS@PORT; greet, and note who came. Runs until it is killed."""
    lock = threading.Lock()

    def note(kind: str, place: str, peer: str) -> None:
        with lock, Path(log).open("a") as file:
            file.write(f"{kind} {place} from {peer}\n")

    def tcp(server: socket.socket, place: str) -> None:
        while True:
            connection, peer = server.accept()
            note("tcp", place, str(peer[0]))
            with connection:
                connection.sendall(f"hello from {place}\n".encode())

    def udp(server: socket.socket, place: str) -> None:
        while True:
            data, peer = server.recvfrom(2048)
            note("udp", place, f"{peer[0]} {data.decode(errors='replace')}")

    for place in places:
        address, _, port = place.partition("@")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for kind, serve in ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)):
            server = socket.socket(family, kind)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            server.bind((address, int(port)))
            if kind == socket.SOCK_STREAM:
                server.listen(16)
            threading.Thread(target=serve, args=(server, place), daemon=True).start()
    with Path(log).open("a") as file:
        file.write("ready\n")
    threading.Event().wait()


def send(interface: str, frames: list[str]) -> dict[str, Any]:
    """Put raw Ethernet frames (hexadecimal) onto an interface."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, 0))
        for frame in frames:
            raw.send(bytes.fromhex(frame).ljust(60, b"\0"))
    return {"result": "sent", "frames": len(frames)}


def sniff(interface: str, log: str) -> None:
    """Note every frame with our mark that is seen on an interface (not those it sends). Runs until it is killed."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as raw, Path(log).open("a") as file:
        raw.bind((interface, ETH_P_ALL))
        file.write("ready\n")
        file.flush()
        while True:
            frame, about = raw.recvfrom(4096)
            start = frame.find(MARK)
            if start >= 0 and about[2] != socket.PACKET_OUTGOING:
                word = frame[start:].split(b"\0")[0].split(b";")[0]
                file.write(f"{word.decode(errors='replace')}\n")
                file.flush()


def arp(interface: str, target: str, timeout: float) -> dict[str, Any]:
    """Ask who has an address; returns the hardware address that answered."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP)) as raw:
        raw.bind((interface, ETH_P_ARP))
        mac = raw.getsockname()[4]
        own = socket.inet_aton(_ipv4(interface))
        ask = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac + own + bytes(6) + socket.inet_aton(target)
        raw.send(b"\xff" * 6 + mac + struct.pack(">H", ETH_P_ARP) + ask)
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            raw.settimeout(left)
            try:
                frame = raw.recv(1514)
            except TimeoutError:
                break
            if frame[20:22] == b"\0\2" and frame[28:32] == socket.inet_aton(target):
                return {"result": "answered", "mac": frame[22:28].hex(":")}
    return {"result": "silence"}


def _ipv4(interface: str) -> str:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", interface.encode()[:15])
        return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), 0x8915, request)[20:24])


def ping(address: str, timeout: float) -> dict[str, Any]:
    """One ICMP echo (version 4 or 6) from a raw socket."""
    six = ":" in address
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.IPPROTO_ICMP)
    request, reply = (128, 129) if six else (8, 0)
    packet = struct.pack(">BBHHH", request, 0, 0, 0x4374, 1) + MARK
    packet = packet[:2] + struct.pack(">H", checksum(packet)) + packet[4:]  # the kernel does it for version 6
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        try:
            raw.sendto(packet, socket.getaddrinfo(address, 0, family)[0][4])
        except OSError as error:
            return {"result": error.strerror}
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            raw.settimeout(left)
            try:
                answer, peer = raw.recvfrom(1514)
            except TimeoutError:
                break
            body = answer if six else answer[(answer[0] & 15) * 4 :]
            if body[0] == reply and MARK in body:
                return {"result": "answered", "peer": peer[0]}
            if body[0] == (1 if six else 3):
                return {"result": "unreachable", "peer": peer[0]}
    return {"result": "silence"}


def checksum(data: bytes) -> int:
    """The internet checksum of an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1]))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def answer(call: list[str], timeout: float) -> dict[str, Any]:
    """Run one probe that ends by itself."""
    what, *args = call
    match what:
        case "connect":
            return connect(args[0], int(args[1]), timeout)
        case "unix":
            return connect_unix(args[0], timeout)
        case "socks":
            return socks(int(args[0]), args[1], int(args[2]), timeout)
        case "send":
            return send(args[0], args[1:])
        case "arp":
            return arp(args[0], args[1], timeout)
        case "ping":
            return ping(args[0], timeout)
    raise ValueError(what)


def main() -> None:
    """Run `listen LOG PLACE...`, `sniff INTERFACE LOG`, or `TIMEOUT`: probes, all at once, as JSON on stdin."""
    if sys.argv[1] == "listen":
        listen(sys.argv[3:], sys.argv[2])
    elif sys.argv[1] == "sniff":
        sniff(sys.argv[2], sys.argv[3])
    else:
        calls: list[list[str]] = json.load(sys.stdin)
        with ThreadPoolExecutor(max_workers=len(calls)) as pool:
            answers = list(pool.map(lambda call: answer(call, float(sys.argv[1])), calls))
        sys.stdout.write(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
