"""Where the manifests come from when they are in git: the configuration of ``containarium sync``."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from containarium.model.base import InvalidValueError, ManifestModel, shown
from containarium.model.quantity import Duration

DEFAULT_BRANCH: Final = "main"
DEFAULT_PATH: Final = "environments"
MIN_TIMEOUT: Final = 5
MAX_TIMEOUT: Final = 3600
"""Seconds."""

_LONGEST = 1024
_WORD = r"[A-Za-z0-9_~][A-Za-z0-9_.~+%@=-]*"
_SLASHED = rf"{_WORD}(?:/{_WORD})*(?:/|\.git)?"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_SCHEMES: Final = (
    ("https", re.compile(rf"https://{_HOST}(?::[0-9]{{1,5}})?/{_SLASHED}")),
    ("ssh", re.compile(rf"ssh://(?:{_USER}@)?{_HOST}(?::[0-9]{{1,5}})?/{_SLASHED}")),
    ("ssh", re.compile(rf"(?:{_USER}@)?{_HOST}:/?{_SLASHED}")),
    ("file", re.compile(rf"(?:file://)?/{_SLASHED}")),
)
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+=@-]*)*")
_FILE = re.compile(r"(?:/[A-Za-z0-9_.+-]+)+")
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+ -]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+ -]*)*")
_INSECURE = ("git://", "http://", "ftp://", "ftps://")
_REMEDY = "write https://HOST/PATH, ssh://git@HOST/PATH, git@HOST:PATH or /PATH"


def scheme(repository: str) -> str:
    """How git reaches a repository: https, ssh or file. Raises InvalidValueError for everything else.

    Only plain addresses pass: nothing that git could take for an option, a command (``ext::``) or another helper.
    """
    if "::" in repository or repository.startswith("-"):
        raise InvalidValueError(f"{shown(repository)} would run a command", _REMEDY)
    if repository.startswith(_INSECURE):
        raise InvalidValueError(
            f"anybody on the way could change what {shown(repository)} brings",
            "write https://HOST/PATH or git@HOST:PATH",
        )
    if repository.startswith("https://") and "@" in repository.split("/")[2]:
        raise InvalidValueError(
            "a password in an address is seen by everybody on the host", "use ssh with a deploy key (identity)"
        )
    if len(repository) <= _LONGEST and "/../" not in f"{repository}/":
        for name, pattern in _SCHEMES:
            if pattern.fullmatch(repository):
                return name
    raise InvalidValueError(f"{shown(repository)} is not the address of a repository", _REMEDY)


def _repository(value: str) -> str:
    scheme(value)
    return value


def _ref(value: str) -> str:
    parts = value.split("/")
    usable = _REF.fullmatch(value) and len(value) <= 200 and ".." not in value and "@{" not in value
    if not usable or any(part.endswith((".lock", ".")) for part in parts):
        raise InvalidValueError(f"{shown(value)} cannot be the name of a branch or tag", "write it like main or v1.2")
    if value.startswith("refs/"):
        raise InvalidValueError(f"{shown(value)} is a full name", "write the short one: main, not refs/heads/main")
    return value


def _file(value: str) -> str:
    if not _FILE.fullmatch(value) or len(value) > _LONGEST or ".." in value.split("/"):
        raise InvalidValueError(
            f"{shown(value)} is not the path of a file here",
            "write a whole path of letters, digits and . _ + -, such as /etc/containarium/allowed_signers",
        )
    return value


def _folder(value: str) -> str:
    path = value.rstrip("/")
    if path == ".":
        return path
    if not _FOLDER.fullmatch(path) or len(path) > 255 or ".." in path.split("/"):
        raise InvalidValueError(
            f"{shown(value)} is not a folder of a repository", 'write it like environments, or "." for all of it'
        )
    return path


def _timeout(value: Any) -> Duration:
    duration = Duration.parse(value)
    if not MIN_TIMEOUT <= duration.delta.total_seconds() <= MAX_TIMEOUT:
        raise InvalidValueError(f"{duration} is no sensible time for git", "write something from 5s to 1h, such as 2m")
    return duration


HostFile = Annotated[str, AfterValidator(_file)]


class SSHSigners(ManifestModel):
    """Signatures made with ssh keys."""

    allowed_signers: HostFile = Field(description="File of allowed signers, see ssh-keygen(1).")


class GPGSigners(ManifestModel):
    """Signatures made with OpenPGP keys."""

    keyring: HostFile = Field(description="File of exported public keys, armoured or not: exactly those may sign.")


class Verify(ManifestModel):
    """Who has to have signed; neither: nobody."""

    ssh: SSHSigners | None = Field(default=None, description="Signed with an ssh key.")
    gpg: GPGSigners | None = Field(default=None, description="Signed with an OpenPGP key.")

    @property
    def wanted(self) -> bool:
        """Whether a signature is asked for."""
        return self.ssh is not None or self.gpg is not None


def _verify(value: Any) -> Any:
    if isinstance(value, Verify):
        return value
    if value == "none":
        return Verify()
    if not isinstance(value, dict):
        raise InvalidValueError(f"{shown(value)} is no check of signatures", "write none, or ssh: or gpg: below it")
    if "ssh" in value and "gpg" in value:
        raise InvalidValueError("there are two kinds of signature", "keep ssh or gpg")
    if value.keys() <= {"ssh", "gpg"} and all(found is None for found in value.values()):
        raise InvalidValueError("it does not say who has to sign", "write none, or ssh: or gpg: below it")
    return value


class SyncConfig(ManifestModel):
    """What ``/etc/containarium/sync.yaml`` holds."""

    repository: Annotated[str, AfterValidator(_repository)] = Field(
        description="Address of the repository: https, ssh, or a path of this host."
    )
    branch: Annotated[str, AfterValidator(_ref)] | None = Field(
        default=None, description=f"Branch to follow. Absent, and without a tag: {DEFAULT_BRANCH}."
    )
    tag: Annotated[str, AfterValidator(_ref)] | None = Field(default=None, description="Tag to follow instead.")
    path: Annotated[str, AfterValidator(_folder)] = Field(
        default=DEFAULT_PATH, description='Folder of the manifests inside the repository; "." for all of it.'
    )
    verify: Annotated[Verify, BeforeValidator(_verify)] = Field(
        default_factory=Verify, description="Who has to have signed the commit, or the tag where that is annotated."
    )
    identity: HostFile | None = Field(default=None, description="Private half of the ssh deploy key.")
    known_hosts: HostFile | None = Field(
        default=None, description="Host keys of the ssh server. Absent: those that ssh knows already."
    )
    timeout: Annotated[Duration, BeforeValidator(_timeout)] = Field(
        default=Duration.parse("2m"), description="How long git may take for each step."
    )

    @model_validator(mode="after")
    def _one_ref(self) -> SyncConfig:
        if self.branch is not None and self.tag is not None:
            raise InvalidValueError("there are a branch and a tag", "keep one of them")
        return self

    @property
    def ref(self) -> str:
        """What is followed, in words: ``branch main``."""
        return f"tag {self.tag}" if self.tag else f"branch {self.branch or DEFAULT_BRANCH}"

    @property
    def refname(self) -> str:
        """What is followed, as git names it: ``refs/heads/main``."""
        return f"refs/tags/{self.tag}" if self.tag else f"refs/heads/{self.branch or DEFAULT_BRANCH}"

    @property
    def scheme(self) -> str:
        """How git reaches the repository: https, ssh or file."""
        return scheme(self.repository)
