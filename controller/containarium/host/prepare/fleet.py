"""What a host of a fleet needs: the account as which the others come, and what follows the list of hosts.

Only where its Host manifest gives it an address in the fleet's network; where it gives none any more, what follows the
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
        return Step("peer account", False, "no network.address: it is in no fleet")
    settings = context.settings
    if not settings.peer_keys.exists():
        context.receipt.add("fleet", PEER_ACCOUNT)
        make_folder(settings.peer_keys)
    return Step("peer account", account.ensure_account(settings, context.run, context.progress), PEER_ACCOUNT)


def membership(context: Context) -> Step:
    """Who may ask, who reaches Incus, who the guests never reach: all of it as the declared hosts say now."""
    if not context.declaration.whole:
        return Step("fleet", False, warning="not every Host manifest can be read: what holds stays as it is")
    settled = Membership(context.settings, context.incus, _name(context), context.run).settle(_hosts(context))
    if settled and _takes_part(context):
        context.receipt.add("incus setting", LISTEN)
        context.receipt.add("fleet", PEER_ACCOUNT)
    fleet = fleet_of(_hosts(context), _name(context))
    text = f"{fleet.own}, with {len(fleet.others)} others" if fleet is not None else "in none"
    return Step("fleet", bool(settled), text + (f"; changed: {', '.join(settled)}" if settled else ""))


def _takes_part(context: Context) -> bool:
    return fleet_of(_hosts(context), _name(context)) is not None


def _name(context: Context) -> str:
    own = context.declaration.own
    return own.name if own is not None else ""


def _hosts(context: Context) -> tuple[DeclaredHost, ...]:
    """The declared hosts; this one by its own manifest, where the folder has none of it."""
    own, hosts = context.declaration.own, context.declaration.hosts
    return hosts if own is None or any(host.name == own.name for host in hosts) else (*hosts, own)
