"""The outer Incus daemon: the tests' own, apart from any other on the machine, and reused from run to run."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab import crossing, leftovers, packages
from tests.lab.command import CommandError, CommandTimeoutError, Completed, LabError, run, wait_until
from tests.lab.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYSCTLS = {  # with the default of 128, about 11 systemd guests run and further ones silently stop
    "fs/inotify/max_user_instances": 1048576,
    "kernel/keys/maxkeys": 2000,
    "kernel/keys/maxbytes": 2000000,
}
OWNER_KEY = "user.ctest.owner"
POOL_SIZE = "30GiB"


class Outer:
    """One outer daemon, its bridge and its pool."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Nothing happens before `up`."""
        self.settings = settings or Settings.from_environment()
        self._pid_file = self.settings.cache / "incusd.json"
        self._log = self.settings.cache / "incusd.log"

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a client that speaks to this daemon."""
        return {"INCUS_DIR": str(self.settings.incus_dir), "INCUS_CONF": str(self.settings.client_dir)}

    def incus(
        self,
        *args: str | Path,
        timeout: float = 60,
        check: bool = True,
        input: str | bytes | None = None,
    ) -> Completed:
        """Run the `incus` client against this daemon."""
        return run(["incus", *args], timeout=timeout, check=check, input=input, env=self.environment)

    def query(self, path: str, *, method: str = "GET", data: object = None, timeout: float = 30) -> Any:
        """One raw API call, waiting for its operation."""
        args = ["query", "--request", method, "--wait", path]
        if data is not None:
            args += ["--data", json.dumps(data)]
        said = self.incus(*args, timeout=timeout).stdout
        return json.loads(said) if said.strip() else None

    def recount(self) -> None:
        """Where btrfs has lost count of what uses the pool, let it count anew: until then no limit holds."""
        if any(file.read_text().strip() == "1" for file in Path("/sys/fs/btrfs").glob("*/qgroups/inconsistent")):
            pool = self.settings.incus_dir / "storage-pools" / self.settings.pool
            run(["btrfs", "quota", "rescan", "-w", pool], timeout=300, check=False)

    def refused_write(self, write: Callable[[], Completed], attempts: int = 3) -> Completed:
        """Return what a write past a disk's limit said.

        Tried again when it was not refused: the kernel now and then loses count at a deletion ("to be deleted qgroup
        has non-zero numbers"), any test's deletion, and until it has counted anew no limit of the whole pool holds.
        """
        for _ in range(attempts):
            self.recount()
            done = write()
            if done.returncode != 0:
                break
        return done

    @contextmanager
    def locked(self, name: str = "outer", timeout: float = 900) -> Iterator[None]:
        """Hold a lock between processes: one of them starts the daemon or builds an image, others wait for it."""
        self.settings.cache.mkdir(parents=True, exist_ok=True)
        with (self.settings.cache / f"{name}.lock").open("w") as file:
            wait_until(f"lock {file.name}", lambda: _try_lock(file.fileno()), timeout=timeout)
            yield

    def up(self) -> None:
        """Make the daemon run, with bridge and pool; start anew from nothing if what is there cannot be used."""
        with self.locked():
            packages.ensure_installed()
            for key, value in SYSCTLS.items():
                path = Path("/proc/sys", key)
                if int(path.read_text()) < value:
                    path.write_text(str(value))
            if self.is_up() and self._answers():
                self._delete_instances(only_orphans=True)
                return
            try:
                self._start()
            except LabError as error:
                print(f"lab: starting anew, the old state is of no use: {error}")
                leftovers.wipe(self.settings)
                self._start()

    def down(self, *, wipe: bool = False) -> None:
        """Delete the instances and end the daemon; with `wipe`, its state too. The images' cache stays."""
        with self.locked():
            if self.is_up():
                self._delete_instances(only_orphans=False)
                self._stop()
            leftovers.remove_namespaces(self.settings.prefix)
            crossing.forget(self.settings)
            if wipe:
                leftovers.wipe(self.settings)

    def is_up(self) -> bool:
        """Tell whether the daemon that we started still lives (the pid alone could be another process by now)."""
        try:
            noted = json.loads(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return False
        return bool(leftovers.start_time(noted["pid"]) == noted["start_time"])

    def instances(self) -> list[dict[str, Any]]:
        """Return name, status and config of every instance."""
        found: list[dict[str, Any]] = self.query("/1.0/instances?recursion=1") or []
        return found

    def _answers(self) -> bool:
        try:
            pool = self.query("/1.0/storage-pools/" + self.settings.pool)
            state = self.query(f"/1.0/networks/{self.settings.bridge}/state")
        except LabError:
            return False
        mounted = (self.settings.incus_dir / "storage-pools" / self.settings.pool).is_mount()
        reachable = state["state"] == "up" and any(a["family"] == "inet" for a in state["addresses"])
        return bool(mounted and pool["status"] == "Created" and reachable)

    def _start(self) -> None:
        """Start the daemon on whatever is in its folder and see that bridge and pool are usable."""
        leftovers.kill_all(leftovers.processes_of(self.settings.incus_dir))
        leftovers.remove_cgroups(self.settings.prefix)
        for folder in (self.settings.incus_dir, self.settings.client_dir):
            folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        (self.settings.incus_dir / "unix.socket").unlink(missing_ok=True)
        pid = self._spawn()
        self._pid_file.write_text(json.dumps({"pid": pid, "start_time": leftovers.start_time(pid)}))
        try:
            self._wait_ready()
            self._configure()
            self._delete_instances(only_orphans=False)
        except LabError as error:
            said = self._log.read_text(errors="replace")[-2000:]
            raise LabError(f"{error}\nincusd said:\n{said}") from error

    def _wait_ready(self, timeout: float = 60) -> None:
        def ready() -> bool:
            if not self.is_up():
                raise LabError("incusd has ended")
            waiting = [str(packages.incusd()), "waitready", "--timeout=1"]
            return run(waiting, timeout=10, check=False, env=self.environment).returncode == 0

        wait_until("incusd ready", ready, timeout=timeout)

    def _spawn(self) -> int:
        """Start incusd in a session of its own: it outlives this process, and nobody waits for it."""
        program = str(packages.incusd())
        argv = [program, "--group", "incus-admin", "--logfile", str(self.settings.cache / "incusd-debug.log")]
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            return os.posix_spawn(
                program,
                argv,
                {**os.environ, **self.environment, "INCUS_LXC_TEMPLATE_CONFIG": "/usr/share/lxc/config"},
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in ((null, 0), (log, 1), (log, 2))],
                setsid=True,
            )
        finally:
            os.close(null)
            os.close(log)

    def _configure(self) -> None:
        """Create pool, bridge and default profile where they are missing."""
        settings = self.settings
        networks = self.query("/1.0/networks?recursion=1")
        if not any(n["name"] == settings.bridge and n["managed"] for n in networks):
            leftovers.remove_link(settings.bridge)
        preseed = {
            "networks": [
                {
                    "name": settings.bridge,
                    "type": "bridge",
                    "config": {
                        "ipv4.address": f"{settings.network}.1/24",
                        "ipv4.nat": "true",
                        "ipv4.dhcp.expiry": "15m",
                        "ipv4.dhcp.ranges": f"{settings.network}.10-{settings.network}.199",
                        "ipv6.address": "none",
                    },
                }
            ],
            "profiles": [
                {
                    "name": "default",
                    "devices": {
                        "root": {"type": "disk", "path": "/", "pool": settings.pool},
                        "eth0": {"type": "nic", "name": "eth0", "network": settings.bridge},
                    },
                }
            ],
        }
        if f"/1.0/storage-pools/{settings.pool}" not in (self.query("/1.0/storage-pools") or []):
            config = {"size": POOL_SIZE}
            preseed["storage_pools"] = [{"name": settings.pool, "driver": "btrfs", "config": config}]
        self.incus("admin", "init", "--preseed", input=json.dumps(preseed), timeout=120)
        if not self._answers():
            raise LabError("bridge or pool of the outer Incus does not work")

    def _delete_instances(self, *, only_orphans: bool) -> None:
        """Delete instances and their volumes: all, or those whose owner's process is gone."""
        for instance in self.instances():
            owner = (instance["config"] or {}).get(OWNER_KEY, "")
            if only_orphans and (owner == "keep" or leftovers.lives(owner)):
                continue
            self.incus("delete", "--force", instance["name"], timeout=120)
        volumes = self.query(f"/1.0/storage-pools/{self.settings.pool}/volumes/custom?recursion=1")
        for volume in volumes or []:
            if not volume["used_by"] and not leftovers.lives(volume["config"].get(OWNER_KEY, "")):
                self.incus("storage", "volume", "delete", self.settings.pool, volume["name"], timeout=120)

    def _stop(self) -> None:
        noted = json.loads(self._pid_file.read_text())
        try:
            self.incus("admin", "shutdown", "--timeout", "20", timeout=60)
        except (CommandError, CommandTimeoutError):
            os.kill(noted["pid"], signal.SIGTERM)
        end = time.monotonic() + 30
        while self.is_up() and time.monotonic() < end:
            time.sleep(0.1)
        if self.is_up():
            leftovers.kill_all([noted["pid"]])
        self._pid_file.unlink()


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
