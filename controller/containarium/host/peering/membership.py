"""What of this host follows the list of the declared hosts: who may ask, who reaches Incus, whom guests never reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from containarium.host.command import Run, run
from containarium.host.files import read_small, write_atomically
from containarium.host.firewall import INCUS_PORT as PORT
from containarium.host.firewall import Firewall, fleet_file, fleet_rules
from containarium.host.incus import Incus
from containarium.host.peering import account
from containarium.host.peering.fleet import Fleet, fleet_of
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError
from containarium.model.manifest import DeclaredHost

LISTEN: Final = "core.https_address"
_OURS: Final = "user.containarium.https-address"
"""What we made of it: another one is an admin's."""
_JAIL: Final = "fail2ban/jail.d/containarium-fleet.local"


class Membership:
    """Keeps this host in step with the fleet. Each part is done only where something differs."""

    def __init__(self, settings: HostSettings, incus: Incus, name: str, run: Run = run) -> None:
        """``name`` is this host's."""
        self._settings = settings
        self._incus = incus
        self._name = name
        self._run = run

    def settle(self, hosts: Sequence[DeclaredHost]) -> tuple[str, ...]:
        """Follow the declared hosts, all of which were read. Returns what was changed, in words. Raises HostError.

        Whoever left is shut out before anybody new is let in.
        """
        fleet = fleet_of(hosts, self._name)
        changed = []
        if self._shut(fleet):
            changed.append("the firewall")
        if account.write_keys(self._settings, account.key_lines(fleet)):
            changed.append("who may ask")
        if self._listen(fleet):
            changed.append("where Incus listens")
        if self._spare(fleet):
            changed.append("whom fail2ban never bans")
        return tuple(changed)

    def _shut(self, fleet: Fleet | None) -> bool:
        path = fleet_file(self._settings)
        wanted = fleet_rules(self._settings, fleet.own, fleet.addresses, fleet.subnets) if fleet is not None else ""
        wall = Firewall(self._settings, self._run)
        if (read_small(path) or "") != wanted:
            if wanted:
                write_atomically(path, wanted)
            else:
                path.unlink(missing_ok=True)
        elif wall.fleet_in_force():  # the file alone says nothing: what loads it may have failed, or been killed
            return False
        wall.apply()
        return True

    def _listen(self, fleet: Fleet | None) -> bool:
        """Have Incus listen on the fleet's network alone. It serves nobody without a certificate or an offer's secret.

        Raises TerminalError (ListenForeign) where an admin has it listen elsewhere.
        """
        config = self._incus.get()["config"]
        have, ours = config.get(LISTEN, ""), config.get(_OURS, "")
        wanted = f"{fleet.own}:{PORT}" if fleet is not None else ""
        if have == wanted or (fleet is None and have != ours):
            return False
        if have and have != ours:
            if have in (f":{PORT}", f"0.0.0.0:{PORT}", f"[::]:{PORT}"):  # there, too; the firewall lets only peers in
                return False
            raise TerminalError(
                f"Incus listens on {have}, where the other hosts do not look for it",
                remedy=f"incus config unset {LISTEN}",
                reason="ListenForeign",
            )
        self._incus.patch(body={"config": {LISTEN: wanted, _OURS: wanted}})
        return True

    def _spare(self, fleet: Fleet | None) -> bool:
        """A host that asks while its key is not known here yet is no attacker."""
        if not (self._settings.etc / "fail2ban").is_dir():
            return False
        path = self._settings.etc / _JAIL
        addresses = " ".join(map(str, fleet.addresses)) if fleet is not None else ""
        wanted = f"# Written by containarium.\n[sshd]\nignoreip = 127.0.0.1/8 ::1 {addresses}\n" if addresses else ""
        if (read_small(path) or "") == wanted:
            return False
        if wanted:
            write_atomically(path, wanted)
        else:
            path.unlink(missing_ok=True)
        if self._run(["fail2ban-client", "ping"], timeout=30, check=False).code == 0:
            self._run(["fail2ban-client", "reload"], timeout=60, check=False)
        return True
