"""What single fields of a manifest may hold: names, labels, images, packages, schedules, dates, addresses, paths."""

from __future__ import annotations

import re
from datetime import date, datetime
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Final

from containarium.model.base import InvalidValueError, shown

NAME_MAX: Final = 32
NAME_PATTERN: Final = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")

HOST_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"
_HOST = re.compile(HOST_PATTERN[1:-1])

LABEL_PATTERN: Final = r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"
_LABEL = re.compile(LABEL_PATTERN[1:-1])

RESERVED_PREFIXES: Final = ("containarium", "systemd-")
_RESERVED: Final = """
    root admin administrator ubuntu debian ec2-user centos fedora cloud-user vagrant toor nobody nogroup localhost
    daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats operator staff users user
    adm tty disk kmem dialout fax voice cdrom floppy tape sudo wheel audio dip src shadow utmp video sasl plugdev
    input sgx kvm render crontab netdev bluetooth scanner ssh sshd ssl-cert messagebus dbus syslog uuidd tss
    polkitd rtkit avahi colord geoclue pulse saned usbmux whoopsie kernoops hplip speech-dispatcher gdm lightdm
    landscape pollinate lxd lxc incus incus-admin docker dockerd containerd libvirt libvirt-qemu qemu dnsmasq
    chrony ntp ntpsec unbound bind named postfix dovecot exim postgres mysql redis mongodb nginx apache http
    prometheus grafana node-exporter telegraf zabbix nagios git ftp rpc statd nfs halt shutdown reboot mount
    fail2ban tcpdump fwupd-refresh sssd munge ceph google-sudoers guest anonymous
"""
RESERVED_NAMES: Final = frozenset(_RESERVED.split())
"""Accounts and groups that Debian, Ubuntu, clouds or usual services have, on the host or in the guest."""


def check_name(name: str) -> str:
    """A name that can be a Linux account, a group and a DNS label at once. Raises InvalidValueError."""
    if not _NAME.fullmatch(name):
        raise InvalidValueError(f"{shown(name)} cannot be a name", _name_remedy(name))
    if len(name) > NAME_MAX:
        raise InvalidValueError(
            f"{shown(name)} has {len(name)} characters", f"write at most {NAME_MAX}, because Linux accounts end there"
        )
    if name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES):
        raise InvalidValueError(f"the name {shown(name)} is reserved for the system", "choose another name")
    return name


def _name_remedy(name: str) -> str:
    rule = "write lowercase letters and digits, a letter first, with single hyphens inside"
    likely = re.sub(r"[^a-z0-9]+", "-", name[: 2 * NAME_MAX].lower()).strip("-")[:NAME_MAX].rstrip("-")
    likely = likely.lstrip("0123456789-")
    usable = bool(_NAME.fullmatch(likely)) and likely not in RESERVED_NAMES
    return f"{rule} ({likely})" if usable and not likely.startswith(RESERVED_PREFIXES) else rule


def check_class_name(name: str) -> str:
    """What an EnvironmentClass can be called. Raises InvalidValueError."""
    if not _NAME.fullmatch(name) or len(name) > NAME_MAX:
        raise InvalidValueError(
            f"{shown(name)} cannot be the name of a class",
            f"write at most {NAME_MAX} lowercase letters and digits, a letter first, with single hyphens inside",
        )
    return name


def check_host(host: str) -> str:
    """The name of a host, as Incus and DNS know it. Raises InvalidValueError."""
    if not _HOST.fullmatch(host) or len(host) > 253:
        raise InvalidValueError(f"{shown(host)} cannot be a host's name", "write the name of a host, such as jump-1")
    return host


def check_label_key(key: str) -> str:
    """A key as Kubernetes has them: a name of 63 characters, a DNS prefix and a slash before it where wanted."""
    prefix, slash, name = key.rpartition("/")
    if not name or not _LABEL.fullmatch(name) or (slash and (not _HOST.fullmatch(prefix) or len(prefix) > 253)):
        raise InvalidValueError(
            f"{shown(key)} cannot be a key here", "write letters, digits, -, _ and ., such as team or example.com/team"
        )
    return key


def check_label_value(value: str) -> str:
    """A label's value as Kubernetes has them: empty, or at most 63 letters, digits, -, _ and ``.``."""
    if not _LABEL.fullmatch(value):
        raise InvalidValueError(
            f"{shown(value)} cannot be a label's value",
            "write at most 63 letters, digits, -, _ and ., or use an annotation",
        )
    return value


IMAGE_REMOTES: Final = ("images", "ubuntu", "ubuntu-daily", "bootstrap")
IMAGE_PATTERN: Final = (
    r"^(bootstrap:(debian|ubuntu)/[a-z0-9][a-z0-9.]*"
    r"|(images:|ubuntu:|ubuntu-daily:)?[A-Za-z0-9]([A-Za-z0-9._/+-]*[A-Za-z0-9])?)$"
)
_IMAGE = re.compile(IMAGE_PATTERN[1:-1])
IMAGE_MAX: Final = 128


def check_image(image: str) -> str:
    """An image of a known remote, one that is bootstrapped here, or a local alias. Raises InvalidValueError."""
    if _IMAGE.fullmatch(image) and len(image) <= IMAGE_MAX and "//" not in image and ".." not in image:
        return image
    remote, colon, _ = image.partition(":")
    if remote == "bootstrap" and colon:
        raise InvalidValueError(f"{shown(image)} cannot be bootstrapped", "write bootstrap:debian/12")
    if colon and remote not in IMAGE_REMOTES:
        raise InvalidValueError(
            f"{shown(remote)} is no known image server",
            "write images:ubuntu/24.04, ubuntu:24.04, ubuntu-daily:..., bootstrap:debian/12, or a local alias",
        )
    raise InvalidValueError(f"{shown(image)} cannot be an image", "write it like images:ubuntu/24.04 or a local alias")


PACKAGE_PATTERN: Final = r"^[a-z0-9][a-z0-9+.-]{0,126}[a-z0-9+.]$"
"""No hyphen at the end: that tells apt to remove the package."""
_PACKAGE = re.compile(PACKAGE_PATTERN[1:-1])


def check_package(package: str) -> str:
    """A Debian package name. Raises InvalidValueError."""
    if not _PACKAGE.fullmatch(package):
        raise InvalidValueError(
            f"{shown(package)} is not a Debian package name", "write the name that apt knows, such as git or g++"
        )
    return package


SCHEDULES: Final = (
    "@hourly",
    "@daily",
    "@midnight",
    "@weekly",
    "@monthly",
    "@annually",
    "@yearly",
    "@startup",
    "@never",
)
"""The aliases that Incus accepts (shared/validate: IsCron, internal/instance/config.go)."""
_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("weekday", 0, 6))
_CRON_STEP = re.compile(r"(\*|[0-9]{1,2}(?:-[0-9]{1,2})?)(?:/([0-9]{1,2}))?")
SCHEDULE_PATTERN: Final = rf"^({'|'.join(SCHEDULES)}|[0-9*/,-]+( [0-9*/,-]+){{4}})$"


def check_schedule(schedule: str) -> str:
    """An alias of Incus, or a cron line of five numeric fields. Raises InvalidValueError."""
    if schedule in SCHEDULES:
        return schedule
    fields = schedule.split(" ")
    if schedule.startswith("@") or len(fields) != len(_CRON_FIELDS):
        raise InvalidValueError(
            f"{shown(schedule)} is not a schedule",
            f'write one of {", ".join(SCHEDULES)}, or five cron fields such as "30 3 * * *"',
        )
    for text, (name, low, high) in zip(fields, _CRON_FIELDS, strict=True):
        if not all(_cron_part(part, low, high) for part in text.split(",")):
            raise InvalidValueError(
                f"{shown(text)} is no {name} of a cron line",
                f"write *, or numbers from {low} to {high} such as {low}, {low}-{high} or */2",
            )
    return schedule


def _cron_part(part: str, low: int, high: int) -> bool:
    match = _CRON_STEP.fullmatch(part)
    if match is None:
        return False
    span, step = match.groups()
    if step is not None and not 1 <= int(step) <= high:
        return False
    if span == "*":
        return True
    first, _, last = span.partition("-")
    return low <= int(first) <= int(last or first) <= high


def check_date(value: Any) -> date:
    """A day, as text or as a date. Raises InvalidValueError."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and len(value) == 10 and value.isascii():
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise InvalidValueError(f"there is no day {shown(value)}", "write year-month-day: 2026-12-31") from None
    raise InvalidValueError(f"{shown(value)} is not a date", "write year-month-day: 2026-12-31")


def check_ipv4(value: Any) -> IPv4Address:
    """An address that a guest could have. Raises InvalidValueError."""
    try:
        address = value if isinstance(value, IPv4Address) else IPv4Address(value if isinstance(value, str) else "")
    except AddressValueError:
        raise InvalidValueError(f"{shown(value)} is not an IPv4 address", "write it like 10.0.3.100") from None
    if (
        address.is_multicast
        or address.is_loopback
        or address.is_link_local
        or address.is_reserved
        or int(address) < 2**24
    ):
        raise InvalidValueError(f"no guest can have the address {address}", "write one of the bridge's own subnet")
    return address


def check_key_path(path: str) -> str:
    """A relative path that stays below the folder of the manifests. Raises InvalidValueError."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        raise InvalidValueError(f"{shown(path)} leaves the folder of the manifests", "write it like keys/alice.pub")
    if not all(parts) or "." in parts or not path.isprintable() or "\\" in path or len(path) > 255:
        raise InvalidValueError(f"{shown(path)} is not a usable path", "write it like keys/alice.pub")
    return path
