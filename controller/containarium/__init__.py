"""Containarium: declarative, self-repairing Linux environments behind SSH on shared Incus hosts."""

__version__ = "0.1.0"
