"""What the controller does for the host beside its passes, and what it has to tell of that."""

from __future__ import annotations

import time
from datetime import datetime

from containarium.host import approvals, command
from containarium.host.firewall import Firewall
from containarium.host.hostname import own_name
from containarium.host.logins import LoginCounter
from containarium.host.prepare import vault
from containarium.host.quotas import Quotas
from containarium.host.settings import HostSettings
from containarium.plan.terms import Approval
from containarium.reconcile.chores import Chore
from containarium.reconcile.controller import Controller
from containarium.reconcile.hostkeeper import HostKeeper
from containarium.report.events import Event as Told
from containarium.report.events import Reason
from containarium.report.reporter import Reporter


def chores(settings: HostSettings, reporter: Reporter) -> tuple[Chore, ...]:
    """What every host needs from time to time: its firewall, its quotas, its vault, and its logins counted."""
    firewall, quotas, logins = Firewall(settings), Quotas(command.run), LoginCounter(settings)
    pool = settings.incus_dir / "storage-pools" / settings.pool

    def count_logins() -> str:
        if (counts := logins.look()) is not None:
            reporter.metrics.logged_in(counts)
        return ""

    return (
        # Whoever reloads the host's own rules may take ours away with them, and guests would reach the host.
        Chore("firewall", 60.0, lambda: "its tables were gone" if firewall.restore() else ""),
        # Now and then the kernel loses count at a deletion, and then nobody's disk has a limit: looking costs one read.
        Chore("quotas", 5.0, lambda: "btrfs had lost count of what uses the disk" if quotas.recount(pool) else ""),
        Chore("vault", 3600.0, lambda: "it follows what was changed here" if vault.follow(settings) else ""),
        Chore("logins", 120.0, count_logins),
    )


def host_keeper(settings: HostSettings, controller: Controller) -> HostKeeper:
    """What sees that this machine's Host manifest has changed."""
    return HostKeeper(settings, own_name(), lambda: controller.last.load, time.monotonic)


def done(reporter: Reporter, name: str, text: str, well: bool) -> None:
    """Tell of a chore that has changed something, or could not be done."""
    if well:
        reporter.record([Told(Reason.HOST_REPAIRED, message=f"{name}: {text}")])
        reporter.logger.warning("host repaired", chore=name, text=text)
    else:
        reporter.logger.error("host not repaired", chore=name, error=text)


class Approvals:
    """What an admin approved; each word of it is written down when it is first heard."""

    def __init__(self, settings: HostSettings, reporter: Reporter) -> None:
        self._runtime = settings.runtime
        self._reporter = reporter
        self._heard: frozenset[Approval] = frozenset()

    def __call__(self, now: datetime) -> frozenset[Approval]:
        found = approvals.read(self._runtime, now)
        for approval in found - self._heard:
            text = f"{approval.verb}: {', '.join(sorted(approval.environments))}"
            self._reporter.record([Told(Reason.APPROVAL_USED, message=text)])
        self._heard = found
        return found
