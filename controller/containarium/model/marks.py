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

RESTART = PREFIX + "restart-since"
"""The instance's ``last_used_at`` when a change was made that acts only after a restart."""

IMAGE_RECIPE = PREFIX + "recipe"
"""On a local image: the recipe hash that it was built from."""

JUMP_GROUP = "containarium-jump"
"""Primary group of every jump account; the sshd drop-in matches on it."""

COMMENT_PREFIX = "containarium jump account of "
"""GECOS comment of a jump account. Group and comment together are the mark of ownership."""

JUMP_SHELL = "/usr/sbin/nologin"


def instance_name(environment: str) -> str:
    """Name of the Incus instance of an environment."""
    return f"{environment}-container"


def account_comment(environment: str) -> str:
    """GECOS comment of the jump account of an environment."""
    return COMMENT_PREFIX + environment
