"""Our block of the person's authorized_keys. The lines outside it are the person's own and stay."""

from __future__ import annotations

from collections.abc import Sequence

from containarium.host import guestfiles
from containarium.host.faults import clean
from containarium.host.guestfiles import GuestUser
from containarium.host.incus import GuestFile, Incus
from containarium.host.look import ENVIRONMENT_NAME, FILE_LIMIT, KEYS_LIMIT
from containarium.model.action import WriteGuestKeys
from containarium.model.host import RetryableError, TerminalError

_TIMEOUT = 30.0


class GuestKeys:
    """Writes keys in running guests."""

    def __init__(self, incus: Incus) -> None:
        self._incus = incus

    def write(self, action: WriteGuestKeys, user: GuestUser | None = None) -> None:
        """Replace our block, atomically; a file that is right already is left alone. No keys: an empty block.

        ``user`` is the account as it stands in the guest's passwd, where that is known already. Links are not
        followed: where ``.ssh`` or the file is one, TerminalError says what to do.
        """
        if user is None or not user.home:
            user = self._user(action.instance, action.user)
        folder = f"{user.home}/.ssh"
        path = f"{folder}/authorized_keys"
        if self._made_folder(action.instance, folder, user):
            data = guestfiles.write_block(b"", action.keys)
            self._incus.write_file(action.instance, path, data, uid=user.uid, gid=user.gid, mode=0o600)
            return
        there = self._incus.read_file(action.instance, path, KEYS_LIMIT)
        if there is not None:
            _require(there.kind == "file", path, f"is a {there.kind}")
            _require(there.whole, path, f"is larger than {KEYS_LIMIT // 1024} KiB")
        data = guestfiles.write_block(there.data if there else b"", action.keys)
        right = (data, user.uid, user.gid, 0o600)
        if there is not None and (there.data, there.uid, there.gid, there.mode) == right:
            return
        beside = f"{folder}/.authorized_keys.containarium"
        self._incus.remove_file(action.instance, beside)
        self._incus.write_file(action.instance, beside, data, uid=user.uid, gid=user.gid, mode=0o600)
        self._run(action.instance, ["mv", "-f", "-T", "--", beside, path])

    def _made_folder(self, instance: str, folder: str, user: GuestUser) -> bool:
        """Whether the folder had to be made, so that nothing is in it. One that is there is put right."""
        there = self._incus.read_file(instance, folder, 0)
        if there is None:
            self._incus.make_folder(instance, folder, uid=user.uid, gid=user.gid, mode=0o700)
            return True
        _require(there.kind == "directory", folder, f"is a {there.kind}")
        if (there.uid, there.gid) != (user.uid, user.gid):
            self._run(instance, ["chown", "-h", "--", f"{user.uid}:{user.gid}", folder])
        if _loose(there):
            self._run(instance, ["chmod", "--", "0700", folder])
        return False

    def _user(self, instance: str, name: str) -> GuestUser:
        if not ENVIRONMENT_NAME.fullmatch(name):
            raise TerminalError(f"{clean(name, 60)!r} is no user name", reason="BadName")
        passwd = self._incus.read_file(instance, "/etc/passwd", FILE_LIMIT)
        user = guestfiles.find_user(passwd.data, name) if passwd and passwd.kind == "file" and passwd.whole else None
        if user is None or not user.home:
            raise RetryableError(
                f"{instance} has no user {name} with a plain home", remedy="it is set up first", reason="UserMissing"
            )
        return user

    def _run(self, instance: str, args: Sequence[str]) -> None:
        done = self._incus.execute(instance, args, timeout=_TIMEOUT)
        if done.code != 0:
            raise RetryableError(
                f"{args[0]} failed in {instance} with exit code {done.code}: {clean(done.tail)}",
                reason="GuestCommandFailed",
            )


def _loose(folder: GuestFile) -> bool:
    return folder.mode & 0o777 != 0o700


def _require(condition: bool, path: str, what: str) -> None:
    if not condition:
        raise TerminalError(
            f"{path} in the guest {what}", remedy="remove it in the guest; it is made anew", reason="OddKeysFile"
        )
