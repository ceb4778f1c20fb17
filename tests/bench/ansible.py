"""A peer: Ansible with community.general.lxd_container, from PyPI, in a virtual environment of its own."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.command import LabError, run
from tests.lab.settings import Settings

_COLLECTION = "lib/python3*/site-packages/ansible_collections/community/general/MANIFEST.json"
_RECAP = re.compile(r"ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")
_TIMEOUT = 1800.0


@dataclass(frozen=True)
class Ansible:
    """The command, and what it calls itself."""

    program: Path
    name: str

    @classmethod
    def ensure(cls) -> Ansible:
        """Install it into the tests' cache folder, once. Raises LabError."""
        venv = Settings.from_environment().cache / "ansible"
        done = venv / "installed"
        if not done.exists():
            shutil.rmtree(venv, ignore_errors=True)
            run([sys.executable, "-m", "venv", venv], timeout=120)
            run([venv / "bin/pip", "install", "--quiet", "ansible"], timeout=1200)
            done.touch()
        manifest = next(venv.glob(_COLLECTION), None)
        if manifest is None:
            raise LabError(f"{venv} has no community.general: remove that folder, and it is installed anew")
        version = json.loads(manifest.read_text())["collection_info"]["version"]
        return cls(venv / "bin/ansible-playbook", f"Ansible, community.general {version}")

    def noop(self, socket: str, boxes: Sequence[Mapping[str, Any]], forks: int) -> float:
        """Let it find that nothing has to be done for these (``name``, ``state``, ``config``, ``devices``), so many
        at a time; seconds. Raises LabError where it changed anything.
        """
        wanted = [{**box, "profiles": []} for box in boxes]
        seconds, changed = self._play(socket, wanted, forks)
        if changed:
            raise LabError(f"Ansible changed {changed} of {len(boxes)} containers: that is no no-op")
        return seconds

    def create(self, socket: str, name: str, fingerprint: str, body: Mapping[str, Any]) -> float:
        """Let it make and start one container from an image; seconds. Raises LabError."""
        source = {"type": "image", "fingerprint": fingerprint}
        seconds, _ = self._play(
            socket, [{"name": name, "state": "started", **body, "profiles": [], "source": source}], 1
        )
        return seconds

    def _play(self, socket: str, boxes: Sequence[Mapping[str, Any]], forks: int) -> tuple[float, int]:
        with tempfile.TemporaryDirectory() as folder:
            inventory, playbook = Path(folder, "inventory.json"), Path(folder, "playbook.json")
            inventory.write_text(json.dumps(_inventory(boxes)))
            playbook.write_text(json.dumps(_playbook(socket, boxes[0])))  # JSON is YAML
            command: list[str | Path] = [self.program, "-i", inventory, f"--forks={forks}", playbook]
            environment = {
                "ANSIBLE_HOME": folder,
                "ANSIBLE_LOCAL_TEMP": folder,
                "ANSIBLE_NOCOLOR": "1",
                "LC_ALL": "C.UTF-8",
            }
            start = time.perf_counter()
            said = run(command, timeout=_TIMEOUT, env=environment).stdout
            return time.perf_counter() - start, changes(said, len(boxes))


def changes(said: str, hosts: int) -> int:
    """How many tasks changed something, by a play's recap. Raises LabError where not every host is in it, and well."""
    found = [tuple(map(int, match.groups())) for match in _RECAP.finditer(said)]
    if len(found) != hosts or any(ok == 0 or unreachable or failed for ok, _, unreachable, failed in found):
        raise LabError(f"Ansible did not get through: {said.strip()[-800:]}")
    return sum(changed for _, changed, _, _ in found)


def _inventory(boxes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    shared = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    return {"all": {"vars": shared, "hosts": {box["name"]: {"box": box} for box in boxes}}}


def _playbook(socket: str, like: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One task. All boxes have the same fields."""
    fields = {field: f"{{{{ box.{field} }}}}" for field in like}
    module = {**fields, "type": "container", "url": f"unix:{socket}", "ignore_volatile_options": True}
    return [{"hosts": "all", "gather_facts": False, "tasks": [{"community.general.lxd_container": module}]}]
