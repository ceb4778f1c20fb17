"""How long this host remembers: its journal, and the log of logins where a syslog daemon writes one."""

from __future__ import annotations

import shutil
from pathlib import Path

from containarium.host.prepare.steps import Context, Step
from containarium.model.hostmanifest import HostSpec

NAME = "logs"
JOURNAL = "systemd/journald.conf.d/50-containarium.conf"
ROTATE = "logrotate.d/00-containarium"
_SYSLOG = Path("/usr/lib/rsyslog/rsyslog-rotate")
_LOGS = Path("/var/log")
_DAY = 86400
_MIB = 1 << 20


def journal_text(spec: HostSpec, disk: int) -> str:
    """journald's addition. ``disk`` is the size of the file system that logs are on, in bytes.

    A file of the journal goes as a whole, counted from its beginning: so each one is of a day, and one day is added.
    """
    days = spec.logs.retention.delta.days
    return (
        "# Written by containarium: for how long this host remembers.\n"
        "[Journal]\n"
        "Storage=persistent\n"
        f"MaxRetentionSec={(days + 1) * _DAY}\n"
        f"MaxFileSec={_DAY}\n"
        # The default, a tenth and at most 4 GiB, is soon used up by those who try passwords.
        f"SystemMaxUse={disk // 4 // _MIB}M\n"
    )


def rotate_text(spec: HostSpec, syslog: Path = _SYSLOG) -> str:
    """logrotate's rule for auth.log, in place of the distribution's, which keeps four weeks."""
    days = spec.logs.retention.delta.days
    return (
        "# Written by containarium: for how long this host remembers logins.\n"
        "/var/log/auth.log {\n"
        "    ignoreduplicates\n    daily\n"
        f"    rotate {days}\n    maxage {days}\n"
        "    missingok\n    notifempty\n    compress\n    delaycompress\n"
        f"    postrotate\n        {syslog}\n    endscript\n"
        "}\n"
    )


def logs(context: Context, syslog: Path = _SYSLOG, folder: Path = _LOGS) -> Step:
    """Have logs kept as long as the manifest says, and no longer."""
    if context.spec is None:
        return Step(NAME, False, "no Host manifest says for how long")
    etc = context.settings.etc
    days = context.spec.logs.retention.delta.days
    changed = context.write(etc / JOURNAL, journal_text(context.spec, shutil.disk_usage(folder).total))
    if changed and context.systemd:
        context.run(["systemctl", "restart", "systemd-journald.service"], timeout=60)
        context.run(["journalctl", "--flush"], timeout=60, check=False)
    if syslog.exists() and (etc / "logrotate.d").is_dir():
        changed |= context.write(etc / ROTATE, rotate_text(context.spec, syslog))
    return Step(NAME, changed, f"{days} days")
