"""Proves the logins: a real ssh client, each person's own key, through the jump account into their own container."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .steps import QuickstartError

_TIMEOUT = 60
_DOCKER = "; docker version --format '{{.Server.Version}}'"
_STDERR_SHOWN = 160


@dataclass(frozen=True)
class Person:
    """Somebody with an environment; in ``config``, the host NAME is their container, JUMP their jump account."""

    name: str
    config: Path
    jump: str
    docker: bool


def prove_all(people: list[Person]) -> list[str]:
    """Log in as everybody at once; return one line per person. Raises QuickstartError at the first thing amiss."""
    with ThreadPoolExecutor(max_workers=len(people)) as pool:
        return list(pool.map(_prove, people))


def _prove(person: Person) -> str:
    where, who, *docker = _answer(person, f"hostname; id -un{_DOCKER if person.docker else ''}").split()
    if (where, who) != (f"{person.name}-container", person.name):
        raise QuickstartError(f"{person.name} arrived as {who} on {where}")
    if person.docker and not docker:
        raise QuickstartError(f"{person.name} got no answer from Docker in {where}: see containarium doctor")
    _prove_refused(person, "run a command on this host", "id")
    _prove_refused(person, "reach a port of this host", "-W", "127.0.0.1:22")
    return " ".join([f"{who}@{where}", *(f"(Docker {version})" for version in docker)])


def _answer(person: Person, command: str) -> str:
    done = _ssh(person, person.name, command)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:_STDERR_SHOWN]
        raise QuickstartError(f"the login of {person.name} failed ({command}): {said}; see containarium doctor")
    return done.stdout


def _prove_refused(person: Person, what: str, *args: str) -> None:
    """The jump account may do nothing else. The login before shows that the refusal is not for want of a key."""
    options = [arg for arg in args if arg.startswith("-") or ":" in arg]
    command = [arg for arg in args if arg not in options]
    done = _ssh(person, *options, person.jump, *command)
    if done.returncode == 0 or done.stdout:
        raise QuickstartError(f"the jump account of {person.name} can {what}: see containarium doctor")


def _ssh(person: Person, *args: str) -> subprocess.CompletedProcess[str]:
    command = ["ssh", "-F", str(person.config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", *args]
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            start_new_session=True,  # no terminal to ask on
        )
    except subprocess.TimeoutExpired:
        raise QuickstartError(f"no end after {_TIMEOUT} s: {' '.join(command)}; see containarium doctor") from None
