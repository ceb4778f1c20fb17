"""What has to survive a new boot disk, kept on the disk of Incus' database, since neither is of use without the other.

One file holds all of it, so that the vault is of one moment. It holds sshd's private host keys: root alone reads it.

Each boot disk notes the digest of the vault that it last agreed with. A boot disk without such a note, or with that of
another state (a disk made from an old image), is new to the vault and takes over what the vault holds. A boot disk that
agrees is followed by the vault: host keys that an admin has replaced are never brought back.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from os import geteuid
from pathlib import Path
from typing import Any

from containarium.host.files import make_folder, read_small, write_atomically
from containarium.host.passwd import IdRange, read_subordinate_ids
from containarium.host.passwdlock import hold_pwd_lock, our_turn
from containarium.host.prepare import wayin
from containarium.host.prepare.receipt import Made, digest
from containarium.host.prepare.steps import Context, Step
from containarium.host.settings import HostSettings
from containarium.host.sshd import Sshd
from containarium.model.host import TerminalError
from containarium.model.sshkey import SSHKey

_VERSION = 1
_HOST_KEY = re.compile(r"ssh_host_[a-z0-9]+_key(\.pub)?")
_IDS = ("subuid", "subgid")
_ROOT = ("root", "0")
ON_DATA_DISK = frozenset({"incus folder", "incus setting", "pool", "bridge", "acl", "acl on bridge"})
"""What of a receipt lives where the vault lives, and can be taken back from a new boot disk too."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the vault holds."""

    host_keys: Mapping[str, str] = field(default_factory=dict)
    """Text of sshd's host keys, private and public, by file name."""
    probe_key: Mapping[str, str] = field(default_factory=dict)
    """The same of the SSH probe's key, which stands in every jump account."""
    peer_key: Mapping[str, str] = field(default_factory=dict)
    """The same of the key by which the other hosts of a fleet know this one."""
    ids: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """Root's ranges (first, count) in subuid and subgid, which the guests' files are mapped to."""
    made: tuple[Made, ...] = ()
    """What a preparation made on the data disk."""
    admins: Mapping[str, tuple[str, ...]] | None = None
    """The admins whom this host's manifest among the manifests named last, with their keys; None where none did."""

    def text(self) -> str:
        """The file's content; the same for the same things."""
        content: dict[str, Any] = {
            "version": _VERSION,
            "host_keys": self.host_keys,
            "probe_key": self.probe_key,
            "peer_key": self.peer_key,
            "ids": self.ids,
            "made": [asdict(made) for made in self.made],
        }
        if self.admins is not None:
            content["admins"] = self.admins
        return json.dumps(content, indent=1, sort_keys=True) + "\n"


def recover(context: Context) -> Step:
    """On a new boot disk: put back what the vault holds, before anything makes such things anew.

    Host keys are tested with ``sshd -t`` before the server reads them, and taken back where it refuses. Raises
    TerminalError (VaultUnreadable, VaultUnsafe, SshdConfigRefused). After a crash, a repetition does the whole again.
    """
    settings = context.settings
    text = _read(settings)
    if text is None:
        return Step("boot disk", False, "there is no vault yet")
    if read_small(mark(settings)) == digest(text):
        return Step("boot disk", False, "the vault knows it")
    kept = _parse(settings, text)
    context.progress(f"new boot disk: restoring what {settings.vault} holds")
    changed, warnings = [], []
    if _restore_host_keys(context, kept.host_keys):
        changed.append("the host keys of sshd")
    if _restore_pair(context, settings.probe_key, kept.probe_key, "probe key"):
        changed.append("the probe's key")
    if _restore_pair(context, settings.peer_key, kept.peer_key, "peer key"):
        changed.append("the key for its peers")
    for name in _IDS:
        done, warning = _restore_ids(context, name, kept.ids.get(name, ()))
        changed += [f"root's ids in {name}"] if done else []
        warnings += [warning] if warning else []
    if any(name in what for what in changed for name in _IDS):
        _reread_ids(context)
    write_atomically(mark(settings), digest(text), 0o600)
    what = f"restored {', '.join(changed)}" if changed else "all was as the vault has it"
    return Step("boot disk", bool(changed), f"a new one: {what}", "; ".join(warnings))


def keep(context: Context) -> Step:
    """Make the vault, or let it follow this boot disk. Last of all, when everything that it keeps is there."""
    settings = context.settings
    if not settings.incus_dir.is_dir():
        return Step("vault", False, warning=f"{settings.incus_dir} does not exist, so nothing survives this boot disk")
    text = _read(settings)
    if text is not None:
        for made in _parse(settings, text).made:
            context.receipt.add(made.kind, made.name, made.before)
    context.receipt.add("vault", str(settings.vault))
    changed = follow(settings, made=context.receipt, admins=_carried_out(context), new=True)
    warning = "" if _host_keys(settings.etc) else "sshd has no host keys to keep; make them with ssh-keygen -A"
    return Step("vault", changed, f"{settings.vault} keeps what a new boot disk needs", warning)


def follow(
    settings: HostSettings,
    *,
    made: Iterable[Made] | None = None,
    admins: Mapping[str, tuple[str, ...]] | None = None,
    new: bool = False,
) -> bool:
    """Let the vault follow what was changed on this boot disk on purpose. Returns whether anything was written.

    Cheap enough for once a minute. Without ``new``, a vault that is missing is not made. A vault that this boot disk
    does not agree with is left as it is: ``recover`` comes first.
    """
    text = _read(settings)
    if text is None and not new:
        return False
    if text is not None and read_small(mark(settings)) != digest(text):
        return False
    before = _parse(settings, text) if text is not None else Kept()
    ids = {name: tuple((r.first, r.count) for r in _ranges(settings.etc / name, root=True)) for name in _IDS}
    now = Kept(
        # What is missing altogether was lost rather than replaced.
        host_keys=_host_keys(settings.etc) or before.host_keys,
        probe_key=_pair(settings.probe_key) or before.probe_key,
        peer_key=_pair(settings.peer_key) or before.peer_key,
        ids={name: ids[name] or before.ids.get(name, ()) for name in _IDS},
        made=before.made if made is None else tuple(item for item in made if item.kind in ON_DATA_DISK),
        admins=before.admins if admins is None else admins,
    )
    if now.text() == text:
        return False
    make_folder(settings.vault, 0o700)
    write_atomically(_file(settings), now.text(), 0o600)
    write_atomically(mark(settings), digest(now.text()), 0o600)
    return True


def kept_admins(settings: HostSettings) -> Mapping[str, tuple[SSHKey, ...]] | None:
    """The admins whom this host's manifest among the manifests named last; None where none did, or none can be told."""
    try:
        text = _read(settings)
        kept = _parse(settings, text).admins if text is not None else None
        return {name: tuple(map(SSHKey.parse, keys)) for name, keys in kept.items()} if kept is not None else None
    except (TerminalError, ValueError):  # what is wrong with it is told by recover
        return None


def differs(settings: HostSettings) -> str:
    """Why a new boot disk would not come back as this one is; empty when it would. Changes nothing, needs root."""
    text = _read(settings)
    if text is None:
        return "there is none"
    if read_small(mark(settings)) != digest(text):
        return "it is another boot disk's"
    kept = _parse(settings, text)
    if kept.host_keys != _host_keys(settings.etc):
        return "it holds other host keys than /etc/ssh"
    return "" if kept.peer_key == _pair(settings.peer_key) else "it holds another key for the peers than this host has"


def remove(settings: HostSettings) -> None:
    """Remove the vault and the note of it; nothing else that may lie there. Raises OSError."""
    _file(settings).unlink(missing_ok=True)
    mark(settings).unlink(missing_ok=True)
    if settings.vault.is_dir():
        settings.vault.rmdir()


def mark(settings: HostSettings) -> Path:
    """The boot disk's note of the vault that it last agreed with."""
    return settings.state / "vault"


def _file(settings: HostSettings) -> Path:
    return settings.vault / "kept.json"


def _read(settings: HostSettings) -> str | None:
    """The vault's text; None where there is none. Raises TerminalError (VaultUnsafe) where others could write it."""
    path = _file(settings)
    for part, is_kind in ((settings.vault, stat.S_ISDIR), (path, stat.S_ISREG)):
        try:
            status = part.lstat()
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise TerminalError(f"may not read {part}", remedy="run it as root", reason="NotRoot") from error
        if not is_kind(status.st_mode) or status.st_uid != geteuid() or status.st_mode & 0o022:
            raise TerminalError(
                f"others than root could have written {part}, so its host keys are not trusted",
                remedy="look at it, then move it away, or make it root's alone (chown root, chmod go-rwx)",
                reason="VaultUnsafe",
            )
    text = read_small(path)
    if text is None:
        raise _unreadable(settings, "it cannot be read")
    return text


def _parse(settings: HostSettings, text: str) -> Kept:
    try:
        content: dict[str, Any] = json.loads(text)
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}")
        host_keys = {str(name): str(key) for name, key in content["host_keys"].items()}
        if not all(_HOST_KEY.fullmatch(name) for name in host_keys):
            raise ValueError("a file that is no host key")
        return Kept(
            host_keys=host_keys,
            probe_key=_halves(content["probe_key"]),
            peer_key=_halves(content.get("peer_key", {})),
            ids={name: tuple((int(first), int(n)) for first, n in content["ids"].get(name, ())) for name in _IDS},
            made=tuple(Made(str(m["kind"]), str(m["name"]), str(m["before"])) for m in content["made"]),
            admins=_admins(content.get("admins")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(settings, str(error)) from error


def _admins(content: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]] | None:
    return None if content is None else {str(name): tuple(map(str, keys)) for name, keys in content.items()}


def _carried_out(context: Context) -> dict[str, tuple[str, ...]] | None:
    """The admins whom this host's manifest among the manifests names, once nobody else has sudo from us."""
    own, settings = context.declaration.own, context.settings
    if own is None or "admins" not in own.manifest.spec.model_fields_set:
        return None
    if not Path(own.origin.file).resolve().is_relative_to(settings.manifests.resolve()):
        return None
    if set(wayin.granted(settings)) != set(own.admins):
        return None
    return {name: tuple(key.line for key in keys) for name, keys in own.admins.items()}


def _unreadable(settings: HostSettings, why: str) -> TerminalError:
    return TerminalError(
        f"{_file(settings)} makes no sense: {why}",
        remedy="look at it; moved away, this boot disk's own host keys hold from now on",
        reason="VaultUnreadable",
    )


def _host_keys(etc: Path) -> dict[str, str]:
    found = {path.name: read_small(path) for path in (etc / "ssh").glob("ssh_host_*_key*")}
    return {name: text for name, text in found.items() if text and _HOST_KEY.fullmatch(name)}


def _halves(content: Mapping[str, Any]) -> dict[str, str]:
    return {half: str(content[half]) for half in sorted(content)}


def _pair(private: Path) -> dict[str, str]:
    """Both halves of a key; empty unless both are there."""
    found = {half: read_small(path) for half, path in _files(private).items()}
    return {half: text for half, text in found.items() if text} if all(found.values()) else {}


def _files(private: Path) -> dict[str, Path]:
    return {"private": private, "public": private.with_name(f"{private.name}.pub")}


def _restore_host_keys(context: Context, kept: Mapping[str, str]) -> bool:
    """Returns whether any differed. The server reads them anew in any case: a run that crashed may have placed them."""
    if not kept:
        return False
    wanted = {context.settings.etc / "ssh" / name: text for name, text in kept.items()}
    before = {path: read_small(path) for path in wanted}
    server = Sshd(context.settings, context.run)
    try:
        for path, text in sorted(wanted.items()):
            _place(path, text)
        server.test("with the host keys of the lost boot disk, which were taken back")
    except (TerminalError, OSError):
        for path, text_before in before.items():
            if text_before is None:
                path.unlink(missing_ok=True)
            else:
                _place(path, text_before)
        raise
    server.reload(context.progress)
    return before != wanted


def _place(path: Path, text: str) -> None:
    if read_small(path) != text:
        write_atomically(path, text, 0o644 if path.suffix == ".pub" else 0o600)


def _restore_pair(context: Context, private: Path, kept: Mapping[str, str], kind: str) -> bool:
    files = _files(private)
    if set(kept) != set(files) or _pair(private) == kept:
        return False
    context.receipt.add(kind, str(private))
    make_folder(private.parent, 0o700)
    for half, path in files.items():
        write_atomically(path, kept[half], 0o644 if half == "public" else 0o600)
    return True


def _restore_ids(context: Context, name: str, kept: tuple[tuple[int, int], ...]) -> tuple[bool, str]:
    """Give root the ranges that the guests on the data disk have. Returns whether anything changed, and a warning."""
    path = context.settings.etc / name
    if not kept or kept == tuple((r.first, r.count) for r in _ranges(path, root=True)):
        return False, ""
    for other in _ranges(path, root=False):
        if any(other.first < first + count and first < other.first + other.count for first, count in kept):
            return (
                False,
                f"{name} gives {other.owner} {other}, which guests have had until now: they will shift",
            )
    with our_turn(context.settings.runtime, wait=60), hold_pwd_lock(context.settings.etc):
        lines = (read_small(path) or "").splitlines()
        lines = [f"root:{first}:{count}" for first, count in kept] + [
            line for line in lines if line.partition(":")[0] not in _ROOT
        ]
        write_atomically(path, "".join(f"{line}\n" for line in lines))
    return True, ""


def _ranges(path: Path, *, root: bool) -> list[IdRange]:
    return [r for r in read_subordinate_ids(path) if (r.owner in _ROOT) == root and r.count > 0]


def _reread_ids(context: Context) -> None:
    """Incus reads the ranges once, when it starts. Guests run on meanwhile."""
    if context.systemd:
        context.progress("restarting Incus, so that it uses the restored ids")
        context.run(["systemctl", "try-restart", "incus.service"], timeout=180)
