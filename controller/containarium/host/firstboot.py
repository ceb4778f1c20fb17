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
# An RSA key costs half a second and more of a processor, a third of a container's whole making, and no client of the
# last ten years needs it beside the two others. An image whose sshd asks for one by name still gets all kinds.
_MAKE_HOST_KEYS = r"""
cd /etc/ssh
if grep -qsiE "^[[:space:]]*HostKey[[:space:]].*rsa" sshd_config sshd_config.d/*.conf; then exec ssh-keygen -A; fi
[ -e ssh_host_ecdsa_key ] || ssh-keygen -q -t ecdsa -N "" -f ssh_host_ecdsa_key
ssh-keygen -q -t ed25519 -N "" -f ssh_host_ed25519_key
"""


def _one_line(script: str) -> str:
    """As systemd takes it between single quotes."""
    return "; ".join(script.strip().splitlines()).replace("%", "%%").replace("$", "$$")


HOST_KEYS = "ssh-host-keys.service"
CERTIFICATE = "snakeoil-certificate.service"
_HOST_KEYS_UNIT = f"""\
[Unit]
Description=Make missing SSH host keys
{_ORDER.format(before="ssh.service ssh.socket ")}\
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/bin/sh -euc '{_one_line(_MAKE_HOST_KEYS)}'
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
