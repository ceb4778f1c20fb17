"""Units that make, in a guest that boots for the first time, what no two machines may share.

They come before anything that could need it. ``ssh.socket`` is there before sockets.target, and so are they: with the
usual dependencies systemd would find a cycle, and drop somebody's job to break it.
"""

from __future__ import annotations

_ORDER = """\
DefaultDependencies=no
After=local-fs.target
Before={before}basic.target shutdown.target
Conflicts=shutdown.target
"""
_INSTALL = """
[Install]
WantedBy=multi-user.target
"""
HOST_KEYS = "ssh-host-keys.service"
CERTIFICATE = "snakeoil-certificate.service"
_HOST_KEYS_UNIT = f"""\
[Unit]
Description=Make missing SSH host keys
{_ORDER.format(before="ssh.service ssh.socket ")}\
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
{_INSTALL}"""
_CERTIFICATE_UNIT = f"""\
[Unit]
Description=Make the missing self-signed certificate of ssl-cert
{_ORDER.format(before="")}\
ConditionPathExists=/usr/sbin/make-ssl-cert
ConditionPathExists=!/etc/ssl/private/ssl-cert-snakeoil.key

[Service]
Type=oneshot
ExecStart=/usr/sbin/make-ssl-cert generate-default-snakeoil
{_INSTALL}"""
UNITS = {HOST_KEYS: _HOST_KEYS_UNIT, CERTIFICATE: _CERTIFICATE_UNIT}
"""Their text by name; each lies in ``/etc/systemd/system``."""
