"""The service's edits of manifests: by the same ways as the commands', with their refusals as statuses of gRPC."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from containarium.api.errors import CallError, as_call_error, invalid, refused
from containarium.cli.editing import Desk, editing, foresee
from containarium.cli.errors import CommandError
from containarium.cli.wiring import Wiring
from containarium.model.base import InvalidValueError
from containarium.model.environment import API_VERSION, KIND
from containarium.model.fields import check_name
from containarium.model.host import HostError
from containarium.model.observed import Observed
from containarium.model.sshkey import SSHKey
from containarium.plan.decision import Interlock
from containarium.sources.edittext import Change, EditRefusedError, SetField
from containarium.sources.yamltext import as_text


class Editor:
    """See ``api.operations.Manifests``. Edits come one after the other, those of other processes included."""

    def __init__(self, wired: Wiring) -> None:
        self._wired = wired
        self._lock = threading.Lock()

    def create(self, document: Mapping[str, Any]) -> None:
        """Write a file of its own."""
        from containarium.cli import create

        name = _checked(document)
        with self._editing(make=True) as desk:
            found = desk.session.manifest(name)
            if found is not None:
                raise CallError(
                    grpc.StatusCode.ALREADY_EXISTS, f"{name} has a manifest already", "ResizeContainer changes it",
                    reason="AlreadyExists", details=_place(str(found.origin.locate("metadata.name"))),
                )  # fmt: skip
            if desk.checkout is not None:
                raise _synced(desk, desk.checkout.file(f"{name}.yaml"), 0)
            stamp = self._wired.clock().isoformat(timespec="seconds")
            desk.session.create(f"{name}.yaml", as_text(dict(document), f"Written by containarium's API on {stamp}."))
            create._refuse_retired(self._foresee(desk, name), name)
            desk.session.commit()

    def set(self, name: str, fields: Mapping[str, str | bool]) -> None:
        """Change fields."""
        with self._editing() as desk:
            self._find(desk, name, next(iter(fields)))
            self._change(desk, name, [SetField(tuple(path.split(".")), _value(v)) for path, v in fields.items()])

    def delete(
        self, names: Sequence[str], approved: str, *, backup: bool | None, at_once: bool,
        pause: Callable[[float], None],
    ) -> Callable[[], None]:  # fmt: skip
        """Take the manifests out, all of them or none, once the containers say how their data goes."""
        from containarium.cli.parting import Terms, refuse_unclear, unsaid, word_given
        from containarium.host import approvals
        from containarium.sources.edit import take_out

        terms, today, told = Terms(backup, at_once), self._wired.clock().date(), list[str]()
        with self._editing() as desk:
            for name in names:
                self._find(desk, name, "metadata.name")
            observed, _ = self._heed(desk, names, approved)
            manifests = [desk.session.find(name).manifest for name in names]
            for manifest in manifests:
                refuse_unclear(manifest, terms)
            todo = [manifest.name for manifest in manifests if unsaid(observed, manifest, terms)]
        try:
            with (
                word_given(self._wired, self._editing, todo, terms, pause, told.append) as word,
                self._editing() as desk,
            ):
                pause(0.0)  # whoever does not wait any more may not want it any more
                _, held = self._heed(desk, names, approved)  # it may have been long
                for interlock in held:
                    approvals.approve(self._wired.settings.runtime, interlock, "retire", self._wired.clock())
                take_out(desk.session, names, today)
                desk.session.commit()
        except (CommandError, CallError, HostError, OSError) as error:
            raise _with_what_was_undone(error, told) from None
        return word.settle

    def _heed(self, desk: Desk, names: Sequence[str], approved: str) -> tuple[Observed, list[Interlock]]:
        """Refuse whom this host would not let go. Returns what was seen of it, and what ``approved`` confirms."""
        from containarium.cli import delete
        from containarium.sources.edit import Session, take_out

        trial = Desk(Session(desk.folder), desk.live, desk.checkout)
        take_out(trial.session, names, self._wired.clock().date())
        plan, observed = foresee(self._wired, trial)
        delete._refuse_protected(desk, observed, names)
        held = [interlock for interlock in plan.interlocks if not set(names).isdisjoint(interlock.environments)]
        for interlock in held:
            if not interlock.digest or interlock.digest != approved:
                raise _held_back(interlock)
        return observed, held

    def add_key(self, name: str, line: str) -> int:
        """Add a line; one that is there already stays as it is."""
        from containarium.sources.editkeys import add_keys

        key = _key(line)
        with self._editing() as desk:
            self._find(desk, name, "spec.sshKeys")
            known = {each.identity for each in desk.session.find(name).manifest.keys}
            if add_keys(desk.session, name, [key]):
                self._commit(desk, name)
            return len(known | {key.identity})

    def remove_key(self, name: str, line: str) -> int:
        """Take a key out, wherever it is written. The last one stays: nobody could log in any more."""
        from containarium.sources.editkeys import remove_keys

        with self._editing() as desk:
            self._find(desk, name, "spec.sshKeys")
            found = desk.session.find(name).manifest.keys
            leaving = [each for each in found if line in (each.fingerprint, each.line) or _same(each, line)]
            if not leaving:
                raise CallError(
                    grpc.StatusCode.NOT_FOUND, f"{name} has no such key", "GetContainer shows those there are",
                    reason="NoSuchKey",
                )  # fmt: skip
            if len(leaving) == len(found):
                raise CallError(
                    grpc.StatusCode.FAILED_PRECONDITION, f"this is the last key of {name}", "add another one first",
                    reason="LastKey",
                )  # fmt: skip
            remove_keys(desk.session, name, [each.identity for each in leaving])
            self._commit(desk, name)
            return len(found) - len(leaving)

    @contextmanager
    def _editing(self, *, make: bool = False) -> Iterator[Desk]:
        try:
            with self._lock, editing(self._wired, None, "api", make=make) as desk, _in_words():
                yield desk
        except CommandError as error:
            raise CallError(grpc.StatusCode.FAILED_PRECONDITION, str(error), reason="EditRefused") from None

    def _find(self, desk: Desk, name: str, field: str) -> None:
        """There is one, and it may be written here."""
        found = desk.session.manifest(name)
        broken = any(problem.environment == name for problem in desk.session.load.problems)
        if found is None and desk.session.load.complete and not broken:
            raise CallError(
                grpc.StatusCode.NOT_FOUND, f"no manifest names {name}", "ListContainers shows those there are",
                reason="NotFound",
            )  # fmt: skip
        found = desk.session.find(name).manifest
        if desk.checkout is not None:
            place = found.origin.locate(field)
            raise _synced(desk, desk.checkout.file(place.file), place.line)

    def _change(self, desk: Desk, name: str, changes: Sequence[Change]) -> None:
        desk.session.change(name, changes)
        self._commit(desk, name)

    def _commit(self, desk: Desk, name: str) -> None:
        self._foresee(desk, name)
        desk.session.commit()

    def _foresee(self, desk: Desk, name: str) -> Observed:
        """Refuse what this host would refuse. Returns what was seen of it."""
        plan, observed = foresee(self._wired, desk)
        for problem in plan.problems:
            if problem.environment == name:
                raise refused(problem, grpc.StatusCode.FAILED_PRECONDITION)
        return observed


@contextmanager
def _in_words() -> Iterator[None]:
    """Refusals with their file, line and field: further out they are one line of text."""
    try:
        yield
    except EditRefusedError as error:
        raise as_call_error(error) or error from None


def _with_what_was_undone(error: Exception, told: Sequence[str]) -> Exception:
    """The error, behind what was said while its deletion was taken back."""
    if isinstance(error, CommandError):
        error = CallError(grpc.StatusCode.FAILED_PRECONDITION, str(error), reason="EditRefused")
    found = as_call_error(error)
    if found is None or not told:
        return found or error
    return CallError(
        found.code, f"{'; '.join(told)}: {found}",
        reason=found.reason, details={"remedy": found.remedy, **found.details}, violations=found.violations,
        retry_after=found.retry_after,
    )  # fmt: skip


def _checked(document: Mapping[str, Any]) -> str:
    """The name of a manifest that is to be a file's name as well."""
    if document.get("kind") != KIND or document.get("apiVersion") != API_VERSION:
        raise invalid("kind", f"it is no manifest of kind {KIND}, {API_VERSION}")
    try:
        return check_name(str(document["metadata"]["name"]))
    except InvalidValueError as error:
        raise invalid("metadata.name", error.message, error.remedy) from None


def _held_back(interlock: Interlock) -> CallError:
    confirm = f"; to confirm exactly this set, approve {interlock.digest}" if interlock.digest else ""
    return CallError(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"nothing was deleted: {interlock.message}{confirm}",
        interlock.remedy,
        reason=interlock.reason.value,
        details={"digest": interlock.digest},
    )


def _synced(desk: Desk, file: str, line: int) -> CallError:
    source = desk.checkout.source if desk.checkout is not None else ""
    return CallError(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"the manifests of this host come from git ({source}), so nothing is written here",
        f"edit {file}{f':{line}' if line else ''} there and commit it",
        reason="ReadOnlySource",
        details={"file": file, "line": str(line)},
    )


def _place(text: str) -> dict[str, str]:
    file, _, rest = text.partition(".yaml:")
    return {"file": f"{file}.yaml", "line": rest.partition(":")[0]} if rest else {"file": text}


def _value(value: str | bool) -> str | int | bool:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    return value


def _key(line: str) -> SSHKey:
    try:
        return SSHKey.parse(line)
    except InvalidValueError as error:
        raise invalid("ssh_public_key", error.message, error.remedy) from None


def _same(key: SSHKey, line: str) -> bool:
    try:
        return SSHKey.parse(line).identity == key.identity
    except ValueError:
        return False
