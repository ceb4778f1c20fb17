"""A git repository that tests push manifests to, good ones and hostile ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

from tests.builders import public_key

_WHO = ("-c", "user.name=Test", "-c", "user.email=test@example.org")


class Repository:
    """A work tree with its repository, whose git obeys no settings of the machine."""

    def __init__(self, path: Path) -> None:
        """Make it, with the branch main and nothing on it."""
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main", "--template=")

    def git(self, *args: str, input: bytes = b"", config: tuple[str, ...] = ()) -> str:
        """Run git in it and return what it prints."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C.UTF-8"}
        options = [word for setting in config for word in ("-c", setting)]
        command = ["git", "-C", str(self.path), *_WHO, *options, *args]
        done = subprocess.run(command, input=input, capture_output=True, env=env, timeout=60, check=False)
        assert done.returncode == 0, f"git {args}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def write(self, path: str, text: str | bytes) -> None:
        """Put a file into the work tree."""
        place = self.path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode() if isinstance(text, str) else text)

    def declare(self, *names: str, folder: str = "environments") -> str:
        """Commit a manifest for each name. Returns the commit."""
        for name in names:
            document = {
                "apiVersion": "containarium.dev/v1",
                "kind": "Environment",
                "metadata": {"name": name},
                "spec": {"image": "bootstrap:debian/12", "sshKeys": [public_key(name)]},
            }
            self.write(f"{folder}/{name}.yaml", yaml.safe_dump(document))
        return self.commit()

    def commit(self, *options: str, config: tuple[str, ...] = ()) -> str:
        """Commit the work tree as it is. Returns the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", "change", *options, config=config)
        return self.head

    @property
    def head(self) -> str:
        """The commit that is checked out."""
        return self.git("rev-parse", "HEAD")

    def tree(self, *lines: str) -> str:
        """Make a tree of lines as ``git mktree`` takes them, however wrong. Returns its name."""
        return self.git("mktree", "--missing", input="\n".join(lines).encode())

    def raw_tree(self, *entries: tuple[str, bytes, str]) -> str:
        """Make a tree that git itself would never make. Entries are mode, name and object."""
        data = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(obj) for mode, name, obj in entries)
        return self.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", input=data)

    def blob(self, content: bytes) -> str:
        """Store a file's content. Returns its name."""
        return self.git("hash-object", "-w", "--stdin", input=content)

    def point(self, tree: str) -> str:
        """Let main be a commit of this tree. Returns the commit."""
        commit = self.git("commit-tree", "-m", "made by hand", tree)
        self.git("update-ref", "refs/heads/main", commit)
        return commit
