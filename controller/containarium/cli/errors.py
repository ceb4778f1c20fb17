"""The last line of defence: whatever goes wrong becomes one line on stderr and an exit code, never a traceback."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from containarium import __version__
from containarium.cli.output import complain

OK = 0
FAILED = 1
CHANGES = 2
UNSAFE = 3
INTERRUPTED = 130

DEBUG = "CONTAINARIUM_DEBUG"
"""Set to 1, every error is followed by its traceback."""


class CommandError(Exception):
    """The command cannot be carried out as it was given. One line for a person, with what to do about it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)


def refuse_no_name(name: str) -> None:
    """Raise CommandError for what can be no environment's name."""
    from containarium.model.base import InvalidValueError
    from containarium.model.fields import check_name

    try:
        check_name(name)
    except InvalidValueError as error:
        raise CommandError(error.message, error.remedy) from None


def explain(error: Exception, state: Path, *, root: bool) -> int:
    """Tell the person about ``error`` and return the exit code. ``state`` is where details of a bug are kept."""
    complain(f"containarium: error: {_line(error, state, root=root)}")
    if os.environ.get(DEBUG) == "1":
        complain("".join(traceback.format_exception(error)))
    return FAILED


def interrupted() -> int:
    """The person pressed Ctrl-C."""
    complain("containarium: interrupted; what was begun is finished by the next containarium apply")
    return INTERRUPTED


def _line(error: Exception, state: Path, *, root: bool) -> str:
    from containarium.model.host import HostError

    usage = getattr(error, "format_message", None)
    if isinstance(error, CommandError | HostError):
        return str(error)
    if usage is not None:  # typer's own: a wrong option, a missing argument
        return f"{str(usage()).rstrip('.')}; see containarium --help"
    if isinstance(error, PermissionError) and not root:
        return f"no permission for {error.filename}; run it as root: sudo containarium ..."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"internal error ({type(error).__name__}), please report it; details: {keep(error, state)}"


def keep(error: Exception, state: Path) -> str:
    """Write the traceback to a private file and return its name."""
    text = "\n".join(
        (
            f"containarium {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"arguments: {sys.argv[1:]}",
            "".join(traceback.format_exception(error)),
        )
    )
    stamp = time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime())
    try:
        folder = state / "crash"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(prefix=stamp, suffix=".txt", dir=folder)
    except OSError:
        try:
            handle, path = tempfile.mkstemp(prefix="containarium-crash-", suffix=".txt")
        except OSError:
            return f"nowhere to write them, set {DEBUG}=1 to see them"
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    return path
