"""What keeps ten thousand environments within the memory that the bench allows."""

from __future__ import annotations

from containarium.model.environment import Deletion, Network, Resources
from tests.builders import manifest


def test_what_a_manifest_does_not_say_it_has_in_common_with_all_others() -> None:
    one, other = (manifest(name).environment.spec for name in ("alice", "bob"))
    assert one.resources is other.resources
    assert one.network is other.network
    assert one.deletion is other.deletion
    assert (one.resources, one.network, one.deletion) == (Resources(), Network(), Deletion())


def test_what_it_says_is_its_own() -> None:
    one, other = manifest("alice", resources={"cpu": 2}), manifest("bob")
    assert str(one.environment.spec.resources.cpu) == "2"
    assert other.environment.spec.resources == Resources()
