"""Where this machine gets its Debian packages from, so that images are built from the same mirrors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CODENAMES = ("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid", "stable", "testing")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_LARGEST = 256 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """One archive of one suite. ``keyring`` is a path, empty where apt's own default applies."""

    uri: str
    suite: str
    components: tuple[str, ...] = ()
    keyring: str = ""


def read_sources(apt: Path) -> list[Source]:
    """Every enabled binary source of an apt folder (usually /etc/apt), both file formats, in apt's order."""
    files = [
        apt / "sources.list",
        *sorted(p for p in apt.glob("sources.list.d/*") if p.suffix in (".list", ".sources")),
    ]
    found: list[Source] = []
    for file in files:
        try:
            text = file.read_text(errors="replace")[:_LARGEST]
        except OSError:
            continue
        found += parse_deb822(text) if file.suffix == ".sources" else parse_one_line(text)
    return found


def parse_one_line(text: str) -> Iterator[Source]:
    """The classic ``deb [options] uri suite components`` format."""
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if len(words) < 3 or words[0] != "deb":
            continue
        rest, keyring = words[1:], ""
        if rest[0].startswith("["):
            end = next((index for index, word in enumerate(rest) if word.endswith("]")), len(rest) - 1)
            options = " ".join(rest[: end + 1]).strip("[] ").split()
            keyring = next((option[10:] for option in options if option.lower().startswith("signed-by=")), "")
            rest = rest[end + 1 :]
        if len(rest) >= 2:
            yield Source(rest[0].rstrip("/"), rest[1], tuple(rest[2:]), keyring)


def parse_deb822(text: str) -> Iterator[Source]:
    """The paragraph format of ``*.sources`` files."""
    for paragraph in text.split("\n\n"):
        fields = _fields(paragraph)
        if fields.get("enabled", "yes").lower() in ("no", "false", "0") or "deb" not in fields.get("types", "").split():
            continue
        keyring = fields.get("signed-by", "")
        keyring = keyring if keyring.startswith("/") and "\n" not in keyring else ""
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri.rstrip("/"), suite, tuple(fields.get("components", "").split()), keyring)


def debian_mirrors(sources: list[Source], codename: str) -> list[Source]:
    """The sources from which ``codename`` is to be built: its archive, updates and security, on the mirrors that this
    machine uses for whatever Debian release it runs. Empty when it uses none: then the tool's defaults apply.
    """
    archive = next((source for source in sources if source.suite in _CODENAMES and "main" in source.components), None)
    if archive is None:
        return []
    keyring = archive.keyring or _KEYRING
    chosen = [Source(archive.uri, suite, ("main",), keyring) for suite in (codename, f"{codename}-updates")]
    security = next(
        (s for s in sources if s.suite.removesuffix("-security") in _CODENAMES and s.suite.endswith("-security")), None
    )
    if security is not None:
        chosen.append(Source(security.uri, f"{codename}-security", ("main",), security.keyring or _KEYRING))
    return chosen


def as_line(source: Source) -> str:
    """The source in the classic format."""
    option = f"[signed-by={source.keyring}] " if source.keyring else ""
    return f"deb {option}{source.uri} {source.suite} {' '.join(source.components)}"


def _fields(paragraph: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    last = ""
    for line in paragraph.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t") and last:
            fields[last] += "\n" + line.strip()
        elif ":" in line:
            last, value = line.split(":", 1)
            last = last.strip().lower()
            fields[last] = value.strip()
    return fields
