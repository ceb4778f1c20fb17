"""Account files and commands of an invented host, for tests that run without root."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from containarium.host.command import Completed
from containarium.host.settings import HostSettings
from containarium.model.marks import JUMP_GROUP, account_comment

TODAY = int(time.time() // 86400)
PASSWD = "root:x:0:0:root:/root:/bin/bash\nadmin:x:1000:1000:The Admin,,,:/home/admin:/bin/bash\n"
GROUP = f"root:x:0:\nsudo:x:27:admin\nadmin:x:1000:\n{JUMP_GROUP}:x:993:\n"
SHADOW = "root:*:19000:0:99999:7:::\nadmin:$y$j9T$abc:19000:0:99999:7:::\n"


class FakeRun:
    """Notes every command, and answers with what the test says."""

    def __init__(self, answer: Callable[[list[str]], Completed] | None = None) -> None:
        self.commands: list[list[str]] = []
        self.inputs: list[str] = []
        self._answer = answer or (lambda _args: Completed(0, "", ""))

    def __call__(
        self,
        args: Sequence[str],
        *,
        timeout: float,
        stdin: str = "",
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        self.commands.append(list(args))
        self.inputs.append(stdin)
        return self._answer(list(args))


def settings(root: Path) -> HostSettings:
    """Settings below a folder of the test's."""
    return HostSettings(
        incus_dir=root / "incus",
        incus_socket=root / "incus" / "unix.socket",
        etc=root / "etc",
        jump_keys=root / "etc" / "ssh" / "containarium" / "keys",
        sshd_drop_in=root / "etc" / "ssh" / "sshd_config.d" / "50-containarium.conf",
        manifests=root / "etc" / "containarium" / "environments",
        state=root / "state",
        runtime=root / "run",
    )


def write_etc(root: Path, **files: str) -> HostSettings:
    """The usual account files, each replaceable or, with a leading "+", appended to."""
    etc = root / "etc"
    etc.mkdir()
    contents = {"passwd": PASSWD, "group": GROUP, "shadow": SHADOW, "subuid": "", "subgid": ""}
    for name, text in files.items():
        contents[name] = contents.get(name, "") + text[1:] if text.startswith("+") else text
    for name, text in contents.items():
        (etc / name).write_text(text)
    return settings(root)


def jump_line(name: str, uid: int = 1500, *, gid: int = 993, comment: str | None = None) -> str:
    """A jump account's line of passwd."""
    comment = account_comment(name) if comment is None else comment
    return f"{name}:x:{uid}:{gid}:{comment}:/nonexistent:/usr/sbin/nologin\n"
