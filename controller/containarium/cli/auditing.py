"""Who changed what: each command that changes something leaves a line in the audit trail, however it ends."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from containarium.cli import errors
from containarium.cli.wiring import Wiring, wiring

CHANGING = frozenset(
    {
        *("apply", "approve", "suspend", "resume", "undelete", "backup", "restore", "sync"),
        *("create", "delete", "rm", "resize", "start", "stop", "key add", "key remove", "label", "edit"),
        *("snapshot create", "snapshot restore", "snapshot delete", "image build", "image prune", "recipe build"),
        *("recipe prune", "host prepare", "host mount", "host undo", "cert generate", "cert client", "cert renew"),
        *("cert revoke", "import"),
    }
)
"""Commands that change something, here or for somebody; a test sees to it that each command is in one of the two."""
LOOKING = frozenset(
    {
        *(
            "plan",
            "list",
            "ls",
            "info",
            "status",
            "events",
            "probe",
            "export",
            "fleet",
            "peer",
            "validate",
            "schema",
            "daemon",
            "doctor",
        ),
        *("version", "sessions", "audit", "report", "snapshot list", "image list", "recipe list", "key list"),
        *("cert list", "cert show", "host status", "api", "context list", "context use", "context add"),
        *("context remove", "host manifest"),
    }
)
"""Commands that change nothing of this host by themselves. Those that serve write down what they do for others."""
_ONLY_WHEN_CHANGED = frozenset({"sync", "import"})
"""What timers run all the time, or mostly only looks: told when manifests came out of it."""
_SECRET = ("token", "password", "secret")
_KEYS = 128 << 10
"""Bytes of one file that a digest takes in."""
_MOST_FILES = 20_000


def audit_all(app: typer.Typer, prefix: str = "") -> None:
    """Have every changing command of an application leave its line. To be called once, when all are registered."""
    for command in app.registered_commands:
        name = f"{prefix}{command.name or ''}"
        if name in CHANGING and command.callback is not None:
            command.callback = _audited(name, command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            audit_all(group.typer_instance, f"{prefix}{group.name} ")


def _audited(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        context = kwargs.get("context")
        wired = wiring(context) if context is not None else Wiring()
        if not wired.is_root():  # it will be refused, or is carried out by somebody else, who writes it down
            return function(*args, **kwargs)
        folder = _folder(wired, kwargs)
        before, result = digest(folder), "failed"
        try:
            value = function(*args, **kwargs)
            result = "ok"
            return value
        except typer.Exit as ended:
            result = "ok" if ended.exit_code == errors.OK else "refused" if ended.exit_code == errors.UNSAFE else result
            raise
        finally:
            after = digest(folder)
            if before != after or name not in _ONLY_WHEN_CHANGED:
                _record(wired, name, kwargs, result, before, after)

    wrapper.audited = name  # type: ignore[attr-defined]
    return wrapper


def _record(wired: Wiring, name: str, kwargs: Mapping[str, Any], result: str, before: str, after: str) -> None:
    from containarium.host.audittrail import caller

    asked = {key: _plain(value) for key, value in kwargs.items() if _worth_telling(key, value)}
    environments = [text for key in ("name", "names", "only") for text in _listed(kwargs.get(key))]
    wired.trail(caller(), name, asked, environments=environments, result=result, before=before, after=after)


def digest(folder: Path) -> str:
    """A short digest of what manifests and key files in a folder say; empty where there are none."""
    found = hashlib.sha256()
    try:
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml", ".pub"))[:_MOST_FILES]
    except OSError:
        return ""
    for path in files:
        found.update(str(path.relative_to(folder)).encode(errors="replace") + b"\0")
        try:
            with path.open("rb") as file:
                found.update(hashlib.sha256(file.read(_KEYS)).digest())
        except OSError:
            continue
    return found.hexdigest()[:16] if files else ""


def _folder(wired: Wiring, kwargs: Mapping[str, Any]) -> Path:
    for key in ("manifests", "path", "write"):
        if isinstance(kwargs.get(key), Path):
            return Path(kwargs[key])
    return wired.settings.manifests


def _worth_telling(key: str, value: Any) -> bool:
    return (
        key not in ("context", "name", "names", "output")
        and not any(word in key for word in _SECRET)
        and value not in (None, False, [], "", ())
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    return [str(item) for item in value] if isinstance(value, list | tuple) else str(value)


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(item) for item in value] if isinstance(value, list | tuple) else []
