"""What marks an object as ours, and the names derived from an environment's name.

There is no database: everything that must be remembered stands on the object itself, under these keys.
"""

PREFIX = "user.containarium."
"""Every instance key that this controller owns starts so; other ``user.*`` keys are never touched."""

ENVIRONMENT = PREFIX + "environment"
"""Name of the environment that owns the instance. Its presence is the mark of ownership."""

APPLIED = PREFIX + "applied"
"""Digest of the desired state that was last reached. Absent: the creation never finished (half-born)."""

IMAGE = PREFIX + "image"
"""The image as the manifest named it when the instance was made."""

DELETION = PREFIX + "deletion"
"""The deletion policy (``Retire;168h;backup``), kept here because the manifest is gone when it is needed."""

RETIRED = PREFIX + "retired"
"""When the environment was retired, RFC 3339 in UTC. Absent while it is wanted."""

PRUNE_AFTER = PREFIX + "prune-after"
"""From when on a retired environment's data may be deleted, RFC 3339 in UTC."""

SUSPENDED = PREFIX + "suspended"
"""Since when an admin wants the environment left alone (RFC 3339, UTC), whatever its manifest says."""

MANIFEST = PREFIX + "manifest"
"""The manifest that was last reached, packed: what ``undelete`` brings back when the file is gone."""

RESTART = PREFIX + "restart-since"
"""The instance's ``last_used_at`` when a change was made that acts only after a restart."""

ARRIVING = PREFIX + "arriving"
"""The host that the instance is being fetched from. It counts as a part of a copy until this is taken off."""

LEAVING = PREFIX + "leaving"
"""The host that may fetch the instance. It is stopped, and nothing starts it, until the copy there is whole."""

MOVED = PREFIX + "moved"
"""The host that the environment lives on now; this instance is what was left behind, retired."""

OUT_OF_DATE = "out of date"
"""Why an instance is deleted of which another host has the whole: one of the three marks above has to stand on it."""

IMAGE_RECIPE = PREFIX + "recipe"
"""On a local image: the digest of what it was built from."""

RECIPE_IMAGE = PREFIX + "recipe-image"
"""On a baked image: the base image as manifests name it. Its presence marks an image as a recipe's."""

RECIPE_BASE = PREFIX + "recipe-base"
"""On a baked image: fingerprint of the base image."""

RECIPE_PACKAGES = PREFIX + "recipe-packages"
"""On a baked image: the packages, separated by spaces."""

RECIPE_DOCKER = PREFIX + "recipe-docker"
"""On a baked image: ``true`` where Docker's service is enabled in it, ``false`` where not."""

RECIPE_BUILT = PREFIX + "recipe-built"
"""On a baked image: when it was, RFC 3339 in UTC."""

RECIPE_VERSION = PREFIX + "recipe-version"
"""On a baked image: by which way of baking it was made."""

BUILDER = PREFIX + "builder"
"""On an instance: digest of the recipe that is baked in it. It is nobody's environment, and gone when that is over."""

BUILDER_SECRETS = PREFIX + "builder-secrets"
"""On a builder: the files with private keys that its base image had, a JSON list."""

AT_ONCE = "1s"
"""The grace period of what is to be deleted now; nobody means to leave it in a manifest."""

BUILDER_STRIPPED = PREFIX + "builder-stripped"
"""On a builder: ``true`` once nothing in it identifies a machine any more. It must not be started again."""

JUMP_GROUP = "containarium-jump"
"""Primary group of every jump account; the sshd drop-in matches on it."""

ADMIN_GROUP = "containarium-admin"
"""Its members may do by way of the API's socket whatever root may. No environment's account is ever in it."""

COMMENT_PREFIX = "containarium jump account of "
"""GECOS comment of a jump account. With the group or the home below it is the mark of ownership."""

JUMP_HOME = "/nonexistent"
"""Home of every jump account."""

JUMP_SHELL = "/usr/sbin/nologin"


PORT_PREFIX = "cnt-"
"""What the name of every guest's port on the bridge begins with."""


def instance_name(environment: str) -> str:
    """Name of the Incus instance of an environment."""
    return f"{environment}-container"


def account_comment(environment: str) -> str:
    """GECOS comment of the jump account of an environment."""
    return COMMENT_PREFIX + environment


def owns_account(name: str, group: str, comment: str, home: str) -> bool:
    """Whether an account of the host is ours: our comment with its own name in it, and our group or our home.

    One of the latter two may have been changed by hand, which is drift; both of them make it somebody else's.
    """
    return comment == account_comment(name) and (group == JUMP_GROUP or home == JUMP_HOME)


def port_name(address: str) -> str:
    """Name of the host's end of the guest's link, made of its IPv4 address: 10.0.3.2 gives ``cnt-0a000302``.

    Together with ``hardware_address`` it lets one static firewall rule bind every port to the only hardware address
    that may speak on it, at boot already, before anything of ours runs.
    """
    return PORT_PREFIX + "".join(f"{int(part):02x}" for part in address.split("."))


def hardware_address(address: str) -> str:
    """The guest's hardware address, locally administered and made of its IPv4 address."""
    return "02:63:" + ":".join(f"{int(part):02x}" for part in address.split("."))
