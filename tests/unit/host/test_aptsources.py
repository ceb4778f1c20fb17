"""The machine's own mirrors, in both of apt's formats."""

from __future__ import annotations

from pathlib import Path

from containarium.host.aptsources import Source, as_line, debian_mirrors, parse_deb822, parse_one_line, read_sources

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

DEB822 = f"""\
Types: deb
# a comment
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: {KEYRING}

Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""


def test_deb822() -> None:
    assert list(parse_deb822(DEB822)) == [
        Source("http://mirror.example/debian", "bookworm", ("main", "contrib"), KEYRING),
        Source("http://mirror.example/debian", "bookworm-updates", ("main", "contrib"), KEYRING),
        Source("http://mirror.example/debian-security", "bookworm-security", ("main",), ""),
    ]


def test_one_line() -> None:
    text = (
        "# deb http://off.example/debian bookworm main\n"
        "deb http://a.example/debian bookworm main # why\n"
        "deb-src http://a.example/debian bookworm main\n"
        "deb [ arch=amd64 signed-by=/k.gpg ] https://b.example/debian/ bookworm main non-free\n"
        "deb [signed-by=/k.gpg\n"
        "deb\n"
    )
    assert list(parse_one_line(text)) == [
        Source("http://a.example/debian", "bookworm", ("main",)),
        Source("https://b.example/debian", "bookworm", ("main", "non-free"), "/k.gpg"),
    ]


def test_mirrors_serve_another_release_too(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb https://packages.example/tool stable-tool main\n")
    (tmp_path / "sources.list.d/debian.sources").write_text(DEB822)
    (tmp_path / "sources.list.d/old.list.save").write_text("deb http://never.example/debian bookworm main\n")
    chosen = debian_mirrors(read_sources(tmp_path), "trixie")
    assert [as_line(source) for source in chosen] == [
        f"deb [signed-by={KEYRING}] http://mirror.example/debian trixie main",
        f"deb [signed-by={KEYRING}] http://mirror.example/debian trixie-updates main",
        f"deb [signed-by={KEYRING}] http://mirror.example/debian-security trixie-security main",
    ]


def test_a_machine_without_debian_mirrors(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://mirror.example/ubuntu noble main universe\n")
    assert debian_mirrors(read_sources(tmp_path), "bookworm") == []
    assert read_sources(tmp_path / "nowhere") == []
