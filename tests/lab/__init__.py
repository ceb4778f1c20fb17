"""The lab: real disposable hosts on the machine that runs the tests.

`outer` is an Incus daemon of the tests' own; `host` runs whole machines on it (systemd, sshd, an Incus of their own);
`laptop` is a user's computer that can reach a host, but nothing behind it. `python -m tests.lab up` brings it all up.
"""
