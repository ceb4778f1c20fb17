"""New environments as flags or a table ask for them, and the manifests that come of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from containarium.cli.errors import CommandError

if TYPE_CHECKING:
    from containarium.model.problem import Problem

_LARGEST: Final = 1 << 20
_TRUE, _FALSE = ("yes", "true", "1", "on"), ("no", "false", "0", "off")
_KEY_TYPES: Final = ("ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-")
_ALIASES: Final = {
    "username": "name",
    "user": "name",
    "ssh_key": "key",
    "ssh-key": "key",
    "keys": "key",
    "disk_quota": "disk",
    "disk-quota": "disk",
}

Source = str | dict[str, str]
"""An item of ``spec.sshKeys``."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One new environment. None and empty: left to its class or the defaults. ``row`` is ``FILE:LINE`` of a table."""

    name: str = ""
    key: tuple[str, ...] = ()
    """Keys as they were given: a line, or the path of a file. ``{name}`` stands for the name."""
    cpu: str | None = None
    memory: str | None = None
    disk: str | None = None
    image: str | None = None
    docker: bool | None = None
    packages: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """``KEY=VALUE``."""
    autostart: bool | None = None
    expires: str | None = None
    class_: str | None = None
    host: str | None = None
    row: str = ""

    def filled(self, others: Wanted) -> Wanted:
        """What is not said here as it is said there."""
        return replace(
            self,
            **{f.name: getattr(self, f.name) or getattr(others, f.name) for f in fields(self) if _open(self, f.name)},
        )


def _open(wanted: Wanted, name: str) -> bool:
    return getattr(wanted, name) in (None, (), "")


_OPTIONS: Final = {
    "metadata.name": ("NAME", "name"),
    "metadata.labels": ("--labels", "labels"),
    "spec.sshKeys": ("--ssh-key", "key"),
    "spec.resources.cpu": ("--cpu", "cpu"),
    "spec.resources.memory": ("--memory", "memory"),
    "spec.resources.disk": ("--disk", "disk"),
    "spec.image": ("--image", "image"),
    "spec.packages": ("--packages", "packages"),
    "spec.expires": ("--expires", "expires"),
    "spec.class": ("--class", "class"),
    "spec.placement": ("--host", "host"),
}
COLUMNS: Final = (
    "name", "key", "cpu", "memory", "disk", "image", "docker", "packages", "labels", "autostart", "expires", "class",
    "host",
)  # fmt: skip


def document(wanted: Wanted, keys: Iterable[Source]) -> dict[str, Any]:
    """The manifest as plain data in the order of the schema. Raises CommandError for labels that are none."""
    resources: dict[str, Any] = {"cpu": number(wanted.cpu), "memory": wanted.memory, "disk": wanted.disk}
    spec: dict[str, Any] = {
        "class": wanted.class_,
        "image": wanted.image,
        "resources": {name: value for name, value in resources.items() if value is not None},
        "sshKeys": list(keys),
        "docker": wanted.docker,
        "packages": list(wanted.packages),
        "autostart": wanted.autostart,
        "placement": {"host": wanted.host} if wanted.host is not None else None,
        "expires": wanted.expires,
    }
    return {
        "apiVersion": "containarium.dev/v1",
        "kind": "Environment",
        "metadata": {"name": wanted.name, "labels": dict(_label(wanted, text) for text in wanted.labels)},
        "spec": {name: value for name, value in spec.items() if value is not None},
    }


def number(cpu: str | None) -> str | int | None:
    """A count of processors as a number, a set of them as text."""
    return int(cpu) if cpu is not None and cpu.isdecimal() and cpu.isascii() and len(cpu) < 10 else cpu


def words(texts: Iterable[str]) -> tuple[str, ...]:
    """What is separated by commas or blanks, once each."""
    return tuple(dict.fromkeys(word for text in texts for word in text.replace(",", " ").split()))


def worded(wanted: Wanted, problem: Problem) -> CommandError:
    """A problem with a new manifest in the words of whoever gave a flag or filled in a table."""
    at = next((names for path, names in _OPTIONS.items() if problem.field.startswith(path)), None)
    if at is None:
        return CommandError(f"{wanted.row or wanted.name}: {problem.field}: {problem.message}", problem.remedy)
    if wanted.row:
        return CommandError(f"{wanted.row}: {at[1]}: {problem.message}", problem.remedy)
    return CommandError(f"{at[0]}: {problem.message}", problem.remedy)


def key_sources(wanted: Wanted, folder: Path, beside: Path) -> list[Source]:
    """The keys of an environment as its manifest names them: their lines, or a file of the manifests' folder.

    Where none was given, ``keys/NAME.pub`` in that folder is taken. ``beside`` is where relative paths begin. Raises
    CommandError.
    """
    from containarium.model.base import InvalidValueError
    from containarium.model.fields import check_name

    where = f"{wanted.row}: key" if wanted.row else "--ssh-key"
    try:
        check_name(wanted.name)
    except InvalidValueError as error:
        raise CommandError(f"{wanted.row}: {error.message}" if wanted.row else error.message, error.remedy) from None
    if not wanted.key:
        file = f"keys/{wanted.name}.pub"
        if (folder / file).is_file():
            return [{"file": file}]
        raise CommandError(
            f"{wanted.row + ': ' if wanted.row else ''}{wanted.name} has no key, so nobody could log in",
            f"give --ssh-key with the person's public key or its file, or put it into {folder / file}",
        )
    found: list[Source] = []
    for text in wanted.key:
        found += [source for source in _sources(text, wanted.name, folder, beside, where) if source not in found]
    return found


def _sources(text: str, name: str, folder: Path, beside: Path, where: str) -> Iterator[Source]:
    if is_key(text):
        yield line_of(text, where)
        return
    path = Path(text.replace("{name}", name)).expanduser()
    path = path if path.is_absolute() else beside / path
    real, root = path.resolve(), folder.resolve()
    if real.is_file() and real.is_relative_to(root):
        yield {"file": str(real.relative_to(root))}
        return
    yield from (key for key in keys_in(path, where))


def is_key(text: str) -> bool:
    """Whether it is meant as a key's own text, not as a file's name."""
    return text.lstrip().startswith(_KEY_TYPES) and " " in text.strip()


def line_of(text: str, where: str) -> str:
    """A key's line as manifests have it. Raises CommandError, which begins with ``where``."""
    from containarium.model.base import InvalidValueError
    from containarium.model.sshkey import SSHKey

    try:
        return SSHKey.parse(text).line
    except InvalidValueError as error:
        raise CommandError(f"{where}: {error.message}", error.remedy) from None


def keys_in(path: Path, where: str) -> list[str]:
    """The keys in a file, as lines. Raises CommandError."""
    from containarium.sources.keyfiles import MAX_KEY_FILE_BYTES, KeyFault, parse_keys
    from containarium.sources.text import TextError, decode

    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise CommandError(
            f"{where}: {path}: {error.strerror}", "give the line of a .pub file in quotes, or the path of one"
        ) from None
    if len(data) > MAX_KEY_FILE_BYTES:
        raise CommandError(f"{where}: {path} is too large for a file of keys", "give the .pub file")
    try:
        found = parse_keys(decode(data), str(path))
    except TextError as error:
        raise CommandError(f"{where}: {path}: {error.fault.message}", error.fault.remedy) from None
    if isinstance(found, KeyFault):
        raise CommandError(f"{where}: {found.location or path}: {found.message}", found.remedy)
    return [key.line for key in found]


# -- tables


def table(path: Path) -> list[Wanted]:
    """The rows of a CSV file with a header. Raises CommandError, which names the line."""
    import csv
    import io

    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"--from: {path}: {error.strerror}", "name a CSV file that can be read") from None
    except UnicodeDecodeError:
        raise CommandError(f"--from: {path} is not UTF-8", "save it as CSV (UTF-8)") from None
    if len(data) > _LARGEST:
        raise CommandError(f"--from: {path} is larger than {_LARGEST >> 10} KiB", "split it")
    lines = text.splitlines()
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(lines[0] if lines else ""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise CommandError(f"{path}:{reader.line_num}: this is not CSV ({error})", "check the quotes") from None
    if len(rows) < 2:
        raise CommandError(f"{path} has no rows", f"begin with a line of column names ({', '.join(COLUMNS)})")
    columns = _columns(path, rows[0])
    return [_row(f"{path}:{line}", columns, cells) for line, cells in rows[1:]]


def table_name(path: Path) -> str:
    """What the file of manifests is called that comes of a table: one that no load passes over."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-") or "class"


def _delimiter(header: str) -> str:
    """Spreadsheets in countries with a decimal comma write semicolons."""
    return ";" if ";" in header and "," not in header else ","


def _columns(path: Path, header: tuple[int, list[str]]) -> list[str]:
    names = [_ALIASES.get(cell.strip().lower(), cell.strip().lower()) for cell in header[1]]
    for name in names:
        if name not in COLUMNS:
            import difflib

            close = difflib.get_close_matches(name, COLUMNS, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"known are {', '.join(COLUMNS)}"
            raise CommandError(f"{path}:{header[0]}: there is no column {name!r}", remedy)
        if names.count(name) > 1:
            raise CommandError(f"{path}:{header[0]}: the column {name} is there twice", "keep one of them")
    if "name" not in names:
        raise CommandError(f"{path}:{header[0]}: there is no column name", "begin with a line of column names")
    return names


def _row(where: str, columns: list[str], cells: list[str]) -> Wanted:
    if len(cells) > len(columns):
        raise CommandError(f"{where}: there are more cells than columns", "put cells with commas in quotes")
    found = {name: cell.strip() for name, cell in zip(columns, cells, strict=False)}
    if not found.get("name"):
        raise CommandError(f"{where}: there is no name", "write one, or delete the row")

    def text(name: str) -> str | None:
        return found.get(name) or None

    return Wanted(
        name=found["name"],
        key=tuple(part.strip() for part in found.get("key", "").replace("\n", ";").split(";") if part.strip()),
        cpu=text("cpu"),
        memory=text("memory"),
        disk=text("disk"),
        image=text("image"),
        docker=_flag(where, "docker", found.get("docker", "")),
        packages=words([found.get("packages", "")]),
        labels=words([found.get("labels", "")]),
        autostart=_flag(where, "autostart", found.get("autostart", "")),
        expires=text("expires"),
        class_=text("class"),
        host=text("host"),
        row=where,
    )


def _flag(where: str, name: str, cell: str) -> bool | None:
    if not cell:
        return None
    if cell.lower() not in _TRUE + _FALSE:
        raise CommandError(f"{where}: {name}: {cell!r} is neither yes nor no", "write yes or no, or leave it empty")
    return cell.lower() in _TRUE


def _label(wanted: Wanted, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        where = f"{wanted.row}: labels" if wanted.row else "--labels"
        raise CommandError(f"{where}: {text!r} is not KEY=VALUE", "write it like team=ml,year=2")
    return key, value
