"""The conformance suite, run inside a disposable host: what the simulator claims is what the machine does."""

from __future__ import annotations

import io
import re
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.lab.project import SOURCE
from tests.lab.recipes import REPOSITORY, VENV

if TYPE_CHECKING:
    from tests.lab.host import LabHost

IMAGE = "guest"
TIMEOUT = 420
_NEEDED = ("tests/__init__.py", "tests/conformance")


def _suite() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in _NEEDED:
            archive.add(REPOSITORY / name, name, filter=_without_caches)
    return buffer.getvalue()


def _without_caches(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in info.name else info


@pytest.mark.timeout(1200)
def test_the_simulator_and_the_machine_agree(lab_host: LabHost) -> None:
    lab_host.run(["containarium", "host", "prepare"], timeout=300)
    lab_host.import_guest_image(IMAGE)
    lab_host.run(["tar", "--extract", "--no-same-owner", "--directory", SOURCE], input=_suite())
    done = lab_host.run(
        [
            *(f"{VENV}/bin/python", "-m", "pytest", f"{SOURCE}/tests/conformance", "--host=real", "--rootdir", SOURCE),
            *(
                "-c",
                f"{SOURCE}/pyproject.toml",
                "-p",
                "no:cacheprovider",
                "--durations=10",
                "--no-header",
                "--tb=short",
                "-v",
            ),
        ],
        env={"CONTAINARIUM_CONFORMANCE_IMAGE": IMAGE, "PYTHONPATH": SOURCE, "HOME": "/root"},
        timeout=TIMEOUT,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, f"exit code {done.returncode}, see the printed run; {done.stderr[-1000:]}"
    assert re.search(r"[1-9]\d* passed", done.stdout), done.stdout
    assert "skipped" not in done.stdout
