"""What the service shows and passes on: the same looks, tables and words as the commands'."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from containarium.api.errors import CallError
from containarium.api.operations import Access
from containarium.cli.errors import CommandError
from containarium.cli.known import Known, current, known, row
from containarium.cli.survey import Survey, survey
from containarium.cli.wiring import Wiring
from containarium.model.host import HostError, TerminalError
from containarium.model.observed import Look

if TYPE_CHECKING:
    from containarium.host.doctor import Finding


class HostViews:
    """See ``api.operations.Views``."""

    def __init__(self, wired: Wiring) -> None:
        self._wired = wired

    def look(self, *, deep: bool = False, approved: frozenset[str] = frozenset(), restart: bool = False) -> Survey:
        """Look now. A folder that is not there yet is none."""
        folder = self._wired.settings.manifests
        look = Look.DEEP if deep else Look.SHALLOW
        return survey(self._wired, folder if folder.is_dir() else None, look, approved=approved, restart=restart)

    def rows(self, *, live: bool) -> tuple[list[dict[str, Any]], list[str]]:
        """From the controller's last pass where that is fresh, as ``list`` does it."""
        found = None if live else current(self._wired)
        if found is not None:
            return [row(environment) for environment in found.status.environments], _of_known(found)
        from containarium.cli.overview import rows

        seen = self.look()
        return rows(seen), _remarks(seen)

    def details(self, name: str, *, deep: bool) -> tuple[dict[str, Any], list[str]]:
        """All about one."""
        from containarium.cli import show
        from containarium.cli.overview import names

        seen = self.look(deep=deep)
        if name not in names(seen):
            raise CallError(
                grpc.StatusCode.NOT_FOUND, f"there is no environment {name}", "containarium list shows those there are",
                reason="NotFound",
            )  # fmt: skip
        return show.everything(self._wired, seen, name, current(self._wired)), _remarks(seen)

    def status(self) -> dict[str, Any]:
        """With the controller's life sign and the age of what it knows."""
        found = self._known()
        return {"alive": found.alive, "age": round(found.age, 1), **found.status.to_json()}

    def events(self, name: str, limit: int) -> list[dict[str, Any]]:
        """Oldest first."""
        from containarium.report.journal import read

        return read(self._wired.settings.events, name, limit)

    def doctor(self) -> Sequence[Finding]:
        """Examine the host."""
        return self._wired.examine(self._wired.settings)

    def access(self, name: str) -> Access:
        """Address and host keys."""
        from containarium.cli import export

        try:
            address, guest, door = export.reached(self._wired, name, export.Way())
        except CommandError as error:
            raise CallError(grpc.StatusCode.FAILED_PRECONDITION, str(error), reason="NoAccess") from None
        return Access(address, door.address, tuple(door.keys), tuple(guest), door.port)

    def _known(self) -> Known:
        found = known(self._wired)
        if found is None:
            raise TerminalError(
                "no controller has run on this host since the boot",
                remedy="there: systemctl start containarium",
                reason="NoController",
            )
        return found


class AdminWords:
    """See ``api.operations.Words``. ``nudge`` lets the controller look."""

    def __init__(self, wired: Wiring, nudge: Callable[[], None]) -> None:
        self._wired = wired
        self._nudge = nudge

    def approve(self, digest: str) -> tuple[str, tuple[str, ...]]:
        """What has this digest now, and nothing else."""
        from containarium.cli.steering import confirm

        try:
            found = confirm(self._wired, self._wired.settings.manifests, digest)
        except CommandError as error:
            raise CallError(grpc.StatusCode.NOT_FOUND, str(error), reason="NoSuchDigest") from None
        self._seen_now()
        return found

    def suspend(self, name: str) -> bool:
        """Leave it alone."""
        changed = self._wired.suspension(self._wired.settings).suspend(name, self._wired.clock())
        self._seen_now()
        return changed

    def resume(self, name: str) -> bool:
        """Look after it again."""
        changed = self._wired.suspension(self._wired.settings).resume(name)
        self._seen_now()
        return changed

    def _seen_now(self) -> None:
        with contextlib.suppress(HostError):  # it will be seen at the next pass
            self._nudge()


def _remarks(seen: Survey) -> list[str]:
    if not seen.declared:
        return ["There are no manifests on this host: only what is here is shown."]
    if seen.plan.problems:
        return ["There are problems in the manifests: see containarium plan"]
    return []


def _of_known(found: Known) -> list[str]:
    said = []
    if found.status.last_pass.error:
        said.append(f"The host could not be looked at: {found.status.last_pass.error}")
    if found.status.problems:
        said.append("There are problems in the manifests: see containarium status")
    return said
