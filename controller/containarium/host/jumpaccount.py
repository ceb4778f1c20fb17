"""What a jump account should be, what makes one ours, and how the distribution's tools are told. Pure."""

from __future__ import annotations

from containarium.host.passwd import AccountFiles, PasswdLine, today
from containarium.model.host import TerminalError
from containarium.model.marks import JUMP_GROUP, JUMP_HOME, JUMP_SHELL, account_comment, owns_account
from containarium.model.observed import Account, Password


def is_ours(account: Account) -> bool:
    """Whether an account carries our marks."""
    return owns_account(account.name, account.group, account.comment, account.home)


def as_account(files: AccountFiles, line: PasswdLine, keys: tuple[str, ...] | None) -> Account:
    """The account that the files describe."""
    group = files.group_names.get(line.gid, str(line.gid))
    return Account(
        name=line.name,
        uid=line.uid,
        group=group,
        comment=line.comment,
        home=line.home,
        shell=line.shell,
        password=files.password(line),
        expired=files.expired(line.name) or files.aged(line.name),
        groups=files.member_of.get(line.name, frozenset()) - {group},
        subordinate_ids=files.has_subordinate(line),
        keys=keys,
    )


def useradd(name: str) -> list[str]:
    """The command that makes the jump account, and nothing beside it."""
    limits = ("SUB_UID_COUNT=0", "SUB_GID_COUNT=0", "PASS_MAX_DAYS=99999", "PASS_MIN_DAYS=0")
    return [
        *("useradd", "--no-create-home", "--no-user-group", "--no-log-init", "-g", JUMP_GROUP),
        *("-c", account_comment(name), "-d", JUMP_HOME, "-s", JUMP_SHELL, "-p", Password.NONE.value),
        *("-e", "", "-f", "-1", *(part for limit in limits for part in ("-K", limit)), "--", name),
    ]


def repairs(files: AccountFiles, line: PasswdLine) -> list[str]:
    """Options of usermod that make an account of ours what it should be; none when it is."""
    account = as_account(files, line, None)
    options: list[str] = []
    if account.group != JUMP_GROUP:
        options += ["-g", JUMP_GROUP]
    if account.home != JUMP_HOME:
        options += ["-d", JUMP_HOME]
    if account.shell != JUMP_SHELL:
        options += ["-s", JUMP_SHELL]
    if account.groups:
        options += ["-G", ""]
    shadow = files.shadow.get(line.name)
    if account.password is not Password.NONE or shadow is None or shadow.expires is not None:
        options += ["-p", Password.NONE.value, "-e", ""]  # -e makes a missing shadow line
    for option, ranges in (("--del-subuids", files.subuid), ("--del-subgids", files.subgid)):
        for owned in files.subordinate(line, ranges)[:1]:  # one range per call; the next look finds the next one
            options += [option, str(owned)]
    return options


def young_again(files: AccountFiles, name: str) -> list[str] | None:
    """The command that ends the aging of a password that nobody has; None where PAM asks for no new one."""
    return ["chage", "-d", str(today()), "-M", "99999", "-I", "-1", "--", name] if files.aged(name) else None


def require_ours(files: AccountFiles, line: PasswdLine) -> None:
    """Raise TerminalError (Conflict) unless the account carries our marks."""
    if not owns_account(line.name, files.group_names.get(line.gid, ""), line.comment, line.home):
        raise conflict(line)


def require_own_uid(files: AccountFiles, line: PasswdLine) -> None:
    """Raise TerminalError (Conflict) where ending the account's processes would end somebody else's."""
    others = [other.name for other in files.passwd.values() if other.uid == line.uid and other is not line]
    if others or line.uid == 0:
        raise TerminalError(
            f"account {line.name} shares its user id {line.uid} with {', '.join(others) or 'root'}",
            remedy="give one of them an id of its own (usermod -u)",
            reason="Conflict",
        )


def conflict(line: PasswdLine) -> TerminalError:
    """What a person is told about a foreign account."""
    return TerminalError(
        f"account {line.name} (user id {line.uid}, comment {line.comment!r}) exists and is not containarium's",
        remedy="choose another metadata.name, or remove that account yourself",
        reason="Conflict",
    )
