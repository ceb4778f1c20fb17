"""The manifests' repository: a bare mirror that git fetches into, and nothing else.

Git is never let write files of a commit: what is in one is listed and read through ``cat-file``, so that no hook,
filter, attribute, submodule or link of the repository has anything to act on (host/checkouts.py writes them). It
runs with an environment and a configuration of our own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from containarium.host.bounded import run_bounded
from containarium.host.gitcommand import Bounded, GitCommand
from containarium.host.gitfaults import gist, known_fault, unknown_fault
from containarium.host.gittree import MAX_BYTES, MAX_FILES, Entry, content_digest, read_listing, too_large
from containarium.model.host import RetryableError, TerminalError
from containarium.model.syncing import SyncConfig

MAX_REPOSITORY: Final = 1 << 30
"""Bytes of one pack, which is what a fetch can bring."""
_MANY_PACKS: Final = 20
_TIP: Final = "refs/sync/tip"
_APPLIED: Final = "refs/sync/applied"
_GPG_HOME: Final = "gnupg"
_LISTING: Final = MAX_FILES * 400


class DamagedError(RetryableError):
    """The mirror itself is broken: it has to be made anew."""


@dataclass(frozen=True, slots=True)
class Tip:
    """What the branch or tag is now. ``tag`` is the annotated tag that leads to the commit, where there is one."""

    commit: str
    tag: str = ""


class Mirror:
    """One repository's mirror below ``folder``. Used under the lock of the sync alone."""

    def __init__(self, folder: Path, config: SyncConfig, run: Bounded = run_bounded) -> None:
        """Nothing happens before ``open``."""
        self._git = GitCommand(folder, config, run)
        self._config = config
        self._folder = folder
        self.path = self._git.repository

    def open(self) -> None:
        """Make the mirror, or clear up what a killed run left of it. Raises HostError."""
        self._git.ready()
        fresh = self._folder / "repository.git.new"
        for folder in (fresh, self._folder / _GPG_HOME):
            shutil.rmtree(folder, ignore_errors=True)
        for leftover in self._folder.glob(".*.*"):  # what write_atomically had not finished
            leftover.unlink()
        if (self.path / "HEAD").is_file():
            for pattern in ("**/*.lock", "**/tmp_*", "**/.tmp-*"):
                for leftover in list(self.path.glob(pattern)):
                    leftover.unlink(missing_ok=True)
            return
        shutil.rmtree(self.path, ignore_errors=True)
        self._local("init", "--quiet", "--bare", "--template=", "--object-format=sha1", directory=fresh)
        fresh.chmod(0o700)
        fresh.rename(self.path)

    def discard(self) -> None:
        """Make the mirror anew: what is in it can be fetched again."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.open()

    def fetch(self) -> Tip:
        """Fetch the branch or tag. Raises HostError; DamagedError where the mirror is to blame."""
        self._tidy()
        config = self._config
        options = [
            *("--quiet", "--no-progress", "--force", "--no-tags", "--no-write-fetch-head", "--refmap="),
            *("--no-recurse-submodules", "--no-auto-maintenance"),
        ]
        done = self._git("fetch", *options, "--", config.repository, f"+{config.refname}:{_TIP}", file=MAX_REPOSITORY)
        if done.code != 0:
            error = known_fault(done.err, config.repository, config.ref)
            if error is None and self._git("fsck", "--connectivity-only", "--no-dangling", "--no-progress").code != 0:
                raise _damaged()
            raise error or unknown_fault(done.err, config.repository)
        found = self._local("rev-parse", "--verify", "--quiet", "--end-of-options", _TIP).strip().decode()
        kind = self._local("cat-file", "-t", found).strip()
        if kind == b"commit":
            return Tip(found)
        peeled = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{found}^{{commit}}")
        if peeled.code != 0:
            raise TerminalError(
                f"{config.ref} does not lead to a commit", remedy="name another one in sync.yaml", reason="RefMissing"
            )
        return Tip(peeled.out.strip().decode(), found)

    def verify(self, tip: Tip) -> None:
        """Raise TerminalError unless the tip carries the wanted signature.

        Signed must be the commit itself; where an annotated tag is followed, the tag, which then has to be named as
        it is in the repository (else an old signed one could be passed off as a new one).
        """
        config = self._config
        if not config.verify.wanted:
            return
        what = f"{config.ref}, an annotated tag," if tip.tag else f"commit {tip.commit[:12]}"
        if tip.tag:
            header = self._local("cat-file", "tag", tip.tag).partition(b"\n\n")[0]
            if b"tag " + (config.tag or "").encode() not in header.splitlines():
                raise TerminalError(
                    f"{what} was made under another name", remedy="make and sign it anew", reason="BadSignature"
                )
        command = ("verify-tag", tip.tag) if tip.tag else ("verify-commit", tip.commit)
        home = self._folder / _GPG_HOME
        try:
            done = self._git(command[0], "--raw", command[1], env=self._git.keyring(home))
        finally:
            shutil.rmtree(home, ignore_errors=True)
        if done.code == 0:
            return
        if not done.err.strip() or "no signature found" in done.err:
            flag = "tag -s" if tip.tag else "commit -S"
            raise TerminalError(f"{what} is not signed", remedy=f"sign it (git {flag})", reason="Unsigned")
        raise TerminalError(
            f"{what} is not signed by anybody who may ({gist(done.err)})",
            remedy="let an allowed signer sign it, or add the signer",
            reason="BadSignature",
        )

    def listing(self, commit: str) -> tuple[Entry, ...]:
        """Every file of the manifests' folder in a commit. Raises TerminalError for what is too much, or unsafe."""
        path = self._config.path
        name = f"{commit}^{{tree}}" if path == "." else f"{commit}:{path}"
        found = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", name)
        tree = found.out.strip().decode("ascii", "replace")
        if found.code != 0 or self._git("cat-file", "-t", tree).out.strip() != b"tree":
            raise TerminalError(
                f"there is no folder {path} in commit {commit[:12]}",
                remedy="mend path in sync.yaml, or push the folder",
                reason="PathMissing",
            )
        try:
            listed = self._local("ls-tree", "-r", "-z", "-l", "--full-tree", tree, output=_LISTING)
        except TerminalError as error:
            if error.reason == "OutputTooLarge":
                raise too_large(path) from None
            raise
        return read_listing(listed, path)

    def contents(self, entries: Iterable[Entry]) -> dict[str, bytes]:
        """The content of every entry, by digest. Each is what its digest says. Raises DamagedError."""
        wanted = {entry.digest: entry.size for entry in entries}
        asked = "".join(f"{digest}\n" for digest in wanted).encode()
        read = self._local("cat-file", "--batch", output=MAX_BYTES + 100 * len(wanted), stdin=asked)
        contents: dict[str, bytes] = {}
        place = 0
        for digest, size in wanted.items():
            start = read.find(b"\n", place) + 1
            data = read[start : start + size]
            if content_digest(data) != digest:
                raise _damaged()
            contents[digest] = data
            place = start + size + 1
        return contents

    def path_taken(self, before: str, after: str) -> str:
        """How history went from one applied commit to the next: forward, rewound, rewritten, or unknown."""
        if before == after:
            return "forward"
        codes = [self._git("merge-base", "--is-ancestor", *pair).code for pair in ((before, after), (after, before))]
        if codes[0] == 0:
            return "forward"
        if codes[1] == 0:
            return "rewound"
        return "rewritten" if codes == [1, 1] else "unknown"

    def keep(self, commit: str) -> None:
        """Let the mirror keep this commit, wherever the branch goes."""
        self._local("update-ref", "--no-deref", _APPLIED, commit)

    # -- details

    def _tidy(self) -> None:
        """Every fetch leaves a pack: make one of many, without what no branch leads to any more."""
        sizes = [pack.stat().st_size for pack in (self.path / "objects" / "pack").glob("*.pack")]
        if len(sizes) > _MANY_PACKS or (len(sizes) > 1 and sum(sizes) > MAX_REPOSITORY // 2):
            self._local("repack", "-a", "-d", "-q", file=2 * MAX_REPOSITORY)

    def _local(
        self,
        *args: str,
        directory: Path | None = None,
        output: int = 1 << 20,
        file: int = MAX_BYTES,
        stdin: bytes = b"",
    ) -> bytes:
        """Git on the mirror alone, which has no reason to fail. Raises DamagedError."""
        env = {"GIT_DIR": str(directory)} if directory else {}
        done = self._git(*args, env=env, output=output, file=file, stdin=stdin)
        if done.code != 0:
            if "No space left on device" in done.err:
                raise RetryableError("the disk is full", remedy=f"make room for {self._folder}", reason="DiskFull")
            raise _damaged(f": git {args[0]} failed ({gist(done.err)})")
        return done.out


def _damaged(how: str = "") -> DamagedError:
    return DamagedError(
        f"the mirror of the repository is damaged{how}", remedy="it is made anew with the next sync", reason="Damaged"
    )
