"""The programs that check terraform/: Terraform itself, a registry of providers that are schemas only, checkov."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from tests.lab.command import CommandError, Completed, LabError, run
from tests.lab.packages import APT_ENVIRONMENT, ensure_lists
from tests.lab.settings import Settings
from tests.terraform import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
MODULES = REPOSITORY / "terraform"
CHECKOV = "checkov==3.3.30"
_QUIET = {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_INPUT": "0"}


@dataclass(frozen=True)
class Provider:
    """A provider and the npm package that its schema is read from."""

    name: str
    version: str
    package: str


PROVIDERS = (
    Provider("google", "6.50.0", "@cdktf/provider-google@16.12.1"),
    Provider("aws", "6.25.0", "@cdktf/provider-aws@21.22.1"),
)


def require_terraform() -> None:
    """Fail a test in CI, and skip it elsewhere, where there is no Terraform. No apt, pip or npm package brings it."""
    if shutil.which("terraform") is None:
        _unavailable("no terraform here: install Terraform 1.11 or newer, of the 1.x line, as its maker describes")


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextmanager
def _locked(name: str) -> Iterator[Path]:
    """The cache folder, for one process at a time."""
    cache = Settings.from_environment().cache
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache


class Terraform:
    """Terraform with a registry of our own, on a copy of the modules: the repository is not written to."""

    def __init__(self, folder: Path, modules: Path = MODULES) -> None:
        """Copy the modules into a folder that is the tests' own."""
        self.modules = folder / "terraform"
        shutil.copytree(
            modules, self.modules, symlinks=True, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*")
        )
        self._mirror = folder / "mirror"
        self._configuration = folder / "terraform.rc"
        self._mirror.mkdir()
        mirror = json.dumps(str(self._mirror))
        self._configuration.write_text(f"provider_installation {{\n  filesystem_mirror {{ path = {mirror} }}\n}}\n")

    def add(self, provider: Provider) -> None:
        """Put a provider into the registry."""
        platform = json.loads(self.run(self.modules, "version", "-json").stdout)["platform"]
        place = self._mirror / "registry.terraform.io" / "hashicorp" / provider.name / provider.version / platform
        place.mkdir(parents=True)
        described = str(schema_file(provider, self.modules))
        program = place / f"terraform-provider-{provider.name}_v{provider.version}"
        program.write_text(
            f"#!{sys.executable}\nimport sys\n\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
            f"from tests.terraform.stub import serve\n\nserve({described!r})\n"
        )
        program.chmod(0o755)

    def run(self, folder: Path | str, *args: str, check: bool = True) -> Completed:
        """Run it in a folder below the copy."""
        own = {"TF_CLI_CONFIG_FILE": str(self._configuration), "TF_DISABLE_PLUGIN_TLS": "1", **_QUIET}
        return run(["terraform", *args], timeout=120, env=own, cwd=self.modules / folder, check=check)

    def init(self, folder: Path | str) -> None:
        """Initialise once."""
        if not (self.modules / folder / ".terraform.lock.hcl").exists():
            self.run(folder, "init", "-no-color", "-backend=false")

    def test(self, folder: Path | str) -> Completed:
        """Run a module's own tests."""
        self.init(folder)
        return self.run(folder, "test", "-no-color", check=False)

    def validate(self, folder: Path | str) -> list[str]:
        """What is wrong with a module, in Terraform's words."""
        self.init(folder)
        said = json.loads(self.run(folder, "validate", "-json", check=False).stdout)
        return [f"{d['severity']}: {d['summary']}: {d.get('detail', '')}" for d in said["diagnostics"]]

    def decide(self, prices: str = "", **variables: Any) -> dict[str, Any]:
        """Apply modules/plan, which makes nothing, and return its outputs. `prices` is a file below the modules."""
        folder = self.modules / "modules" / "plan"
        self.init(folder)
        digest = hashlib.sha256((prices + json.dumps(variables, sort_keys=True)).encode()).hexdigest()[:16]
        asked, state = folder / f"{digest}.tfvars.json", folder / f"{digest}.tfstate"
        asked.write_text(json.dumps(variables))
        options = ["-no-color", "-auto-approve", f"-var-file={asked}", f"-state={state}"]
        options += [f"-var-file={self.modules / prices}"] if prices else []
        self.run(folder, "apply", *options)
        found = json.loads(self.run(folder, "output", "-json", f"-state={state}").stdout)
        return {name: output["value"] for name, output in found.items()}


def schema_file(provider: Provider, modules: Path) -> Path:
    """The schema of what the modules name of a provider, read once per version of package, modules and reader."""
    wanted = schema.used(modules, provider.name)
    text = f"{provider.package} {sorted(wanted)} {Path(schema.__file__).read_text()}"
    name = f"schema-{provider.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    with _locked("terraform") as cache:
        file = cache / "terraform" / name
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            made = file.with_suffix(".new")
            made.write_text(json.dumps(schema.read(package(provider, file.parent), wanted)))
            made.rename(file)
    return file


def package(provider: Provider, folder: Path) -> Path:
    """The npm package, fetched as this machine's npm is configured."""
    kept = folder / f"{provider.package.strip('@').replace('/', '-').replace('@', '-')}.tgz"
    if not kept.exists():
        ensure_command("npm", "npm")
        work = folder / f"{provider.name}.new"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        run(["npm", "pack", "--silent", provider.package], timeout=300, cwd=work)
        fetched = list(work.glob("*.tgz"))
        if len(fetched) != 1:
            raise LabError(f"npm pack {provider.package} left {len(fetched)} packages")
        fetched[0].rename(kept)
        work.rmdir()
    return kept


def checkov() -> Path:
    """Checkov, in a virtual environment of its own: its dependencies are pinned, and are not ours."""
    with _locked("checkov") as cache:
        folder = cache / CHECKOV.replace("==", "-")
        program = folder / "bin" / "checkov"
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            run([sys.executable, "-m", "venv", folder], timeout=120)
            run([folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", CHECKOV], timeout=600)
            (folder / "complete").touch()
    return program


def ensure_command(command: str, package: str) -> None:
    """Have apt install what is missing. Where it cannot, fail a test in CI, and skip it elsewhere."""
    if shutil.which(command) is not None:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        _unavailable(f"no {command} here: install the package {package}")
    with _locked("apt"):
        install = ["apt-get", "--quiet", "--yes", "--no-install-recommends", "install", package]
        ensure_lists()
        try:
            run(install, timeout=300, env=APT_ENVIRONMENT)
        except CommandError:
            run(["apt-get", "--quiet", "update"], timeout=300, env=APT_ENVIRONMENT)
            run(install, timeout=300, env=APT_ENVIRONMENT)
