"""What a host of a fleet needs: the account as which the others come, and what follows the list of hosts.

Only where it is declared with an address in the fleet's network; where it is not, or not any more, what follows the
list is taken away, and the account stays, which opens nothing then.
"""

from __future__ import annotations

from containarium.host.files import make_folder
from containarium.host.peering import account
from containarium.host.peering.fleet import fleet_of
from containarium.host.peering.membership import LISTEN, Membership
from containarium.host.prepare.steps import Context, Step
from containarium.host.sshd import PEER_ACCOUNT
from containarium.model.manifest import DeclaredHost


def peers(context: Context) -> Step:
    """The account as which the others come, and the folder of their keys."""
    if not _takes_part(context):
        return Step("peer account", False, _why_not(context))
    settings = context.settings
    if not settings.peer_keys.exists():
        context.receipt.add("fleet", PEER_ACCOUNT)
        make_folder(settings.peer_keys)
    return Step("peer account", account.ensure_account(settings, context.run, context.progress), PEER_ACCOUNT)


def membership(context: Context) -> Step:
    """Who may ask, who reaches Incus, who the guests never reach: all of it as the declared hosts say now."""
    if not context.declaration.whole:
        return Step("fleet", False, warning="not every Host manifest can be read: what holds stays as it is")
    hosts = context.declaration.hosts  # as the controller follows them: one that is not among them is on no list
    settled = Membership(context.settings, context.incus, _name(context), context.run).settle(hosts)
    fleet = fleet_of(hosts, _name(context))
    if settled and fleet is not None:
        context.receipt.add("incus setting", LISTEN)
        context.receipt.add("fleet", PEER_ACCOUNT)
    text = f"{fleet.own}, with {len(fleet.others)} others" if fleet is not None else "in none"
    return Step("fleet", bool(settled), text + (f"; changed: {', '.join(settled)}" if settled else ""))


def _why_not(context: Context) -> str:
    hosts = _hosts(context)
    if hosts and not any(host.name == _name(context) for host in hosts):
        return "other hosts are declared, and this one is not: it is in no fleet"
    return "no network.address: it is in no fleet"


def _takes_part(context: Context) -> bool:
    return fleet_of(_hosts(context), _name(context)) is not None


def _name(context: Context) -> str:
    own = context.declaration.own
    return own.name if own is not None else ""


def _hosts(context: Context) -> tuple[DeclaredHost, ...]:
    """The declared hosts; this one alone where none is declared yet, so that its account is there when it is.

    Where others are declared, and this one is not, it has left their list.
    """
    own, hosts = context.declaration.own, context.declaration.hosts
    return hosts or ((own,) if own is not None else ())
