"""The jump account: an open door is narrowed before anything that a guest could make fail, and leads to no stranger."""

from __future__ import annotations

import pytest

from containarium.model.action import InstallPackages, LockGuestRoot, UpdateInstance, WriteGuestKeys
from containarium.simulate.faults import Boundary, Fail, Fault
from containarium.simulate.host import SimulatedHost
from containarium.simulate.somebody import Somebody
from tests.builders import Site, manifest, public_key

BOX = "alice-container"


@pytest.mark.parametrize("failing", [WriteGuestKeys, InstallPackages, LockGuestRoot, UpdateInstance])
def test_no_guest_holds_up_the_withdrawal_of_a_key(failing: type) -> None:
    site = Site(manifest("alice", keys=[public_key("stolen"), public_key("kept")]))
    assert site.run().converged

    def refuses(boundary: Boundary) -> Fault | None:
        return Fail() if isinstance(boundary.action, failing) else None

    site.host = SimulatedHost(site.world, refuses)
    Somebody(site.world).set_root_password(BOX)
    site.declare(manifest("alice", keys=[public_key("kept")], packages=["git"], resources={"cpu": "1"}))
    assert site.run().failures
    account = site.world.account("alice")
    assert account is not None
    assert account.keys is not None
    assert [line for line in account.keys if public_key("stolen") in line] == []


def test_no_guest_holds_up_taking_a_shell_away() -> None:
    site = Site(manifest("alice"))
    site.run()
    site.host = SimulatedHost(site.world, lambda b: Fail() if isinstance(b.action, InstallPackages) else None)
    Somebody(site.world).give_shell("alice")
    site.declare(manifest("alice", packages=["git"]))
    assert site.run().failures
    account = site.world.account("alice")
    assert account is not None
    assert account.shell == "/usr/sbin/nologin"


def test_the_door_of_a_new_environment_is_still_made_last() -> None:
    site = Site(manifest("alice"))
    site.host = SimulatedHost(site.world, lambda b: Fail() if isinstance(b.action, WriteGuestKeys) else None)
    assert site.run().failures
    assert site.world.account("alice") is None


@pytest.mark.parametrize("how", ["suspended", "elsewhere"])
def test_an_address_that_somebodys_keys_still_open_goes_to_nobody_else(how: str) -> None:
    site = Site(manifest("alice"))
    site.run()
    Somebody(site.world).remove_instance(BOX)
    alice = (
        manifest("alice", annotations={"containarium.dev/suspend": "true"})
        if how == "suspended"
        else manifest("alice", placement={"host": "another"})
    )
    site.declare(alice, manifest("bob"))
    site.run()
    account = site.world.account("alice")
    assert account is not None
    assert account.keys is not None
    assert 'permitopen="10.0.3.2:22"' in account.keys[0]
    assert site.world.instances["bob-container"].addresses == ("10.0.3.3",)
