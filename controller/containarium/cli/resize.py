"""The command resize: more or less of processors, memory and disk, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from containarium.cli.editing import PATIENCE, Manifests, Name, Wait, editing, foresee, refuse_problems, refuse_synced
from containarium.cli.errors import CommandError
from containarium.cli.follow import follow
from containarium.cli.output import say
from containarium.cli.wanted import number
from containarium.cli.wiring import wiring

if TYPE_CHECKING:
    from containarium.model.environment import Environment
    from containarium.plan.decision import Plan

_FIELDS = ("cpu", "memory", "disk")


def resize(
    context: typer.Context,
    name: Name,
    cpu: Annotated[
        str | None, typer.Option(help="A number of CPUs (4), or CPU ids (2-4, 0-3).", show_default=False)
    ] = None,
    memory: Annotated[str | None, typer.Option(help="Memory: 8GB, 4096MB, 8GiB.", show_default=False)] = None,
    disk: Annotated[
        str | None,
        typer.Option("--disk", "--disk-quota", help="Disk quota. It grows, and never shrinks.", show_default=False),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show each change and when it acts.")] = False,
    manifests: Manifests = None,
    wait: Wait = PATIENCE,
) -> None:
    """Change the limits of an environment. It goes on running.

    Example: containarium resize alice --cpu 4 --memory 8GiB --disk 100GiB
    """
    wired = wiring(context)
    given: dict[str, str | int | None] = {"cpu": number(cpu), "memory": memory, "disk": disk}
    asked = {field: value for field, value in given.items() if value is not None}
    if not asked:
        raise CommandError(
            "there is nothing to change", f"containarium resize {name} --cpu 4 --memory 8GiB --disk 50GiB"
        )
    with editing(wired, manifests, f"resize {name}") as desk:
        from containarium.sources.edit import ManifestRefusedError
        from containarium.sources.edittext import SetField

        found = desk.session.find(name)
        refuse_synced(desk, name, f"spec.resources.{next(iter(asked))}")
        before = _resources(found.manifest.environment)
        changes = [SetField(("spec", "resources", field), value) for field, value in asked.items()]
        desk.session.change(name, changes)
        try:
            after_load = desk.session.check()
        except ManifestRefusedError as refused:
            field = refused.problem.field.rpartition(".")[2]
            if field not in asked:
                raise
            raise CommandError(f"--{field}: {refused.problem.message}", refused.problem.remedy) from None
        after = next(_resources(m.environment) for m in after_load.manifests if m.name == name)
        if before == after:
            say(f"{name} has that already: {_shown(after)}")
            return
        if desk.live:
            plan, _ = foresee(wired, desk)
            refuse_problems(plan, name)
            if verbose:
                _tell_plan(plan, name)
        desk.session.commit()
    changed = ", ".join(
        f"{field} {before[field]} -> {after[field]}" for field in _FIELDS if before[field] != after[field]
    )
    follow(wired, desk, [name], wait, f"{name}: {changed}")


def _resources(environment: Environment) -> dict[str, str]:
    resources = environment.spec.resources
    return {field: str(getattr(resources, field)) for field in _FIELDS}


def _shown(resources: dict[str, str]) -> str:
    return ", ".join(f"{field} {value}" for field, value in resources.items())


def _tell_plan(plan: Plan, name: str) -> None:
    from containarium.cli.outcome import narrowed
    from containarium.cli.output import say_plan
    from containarium.plan import render

    part = narrowed(plan, frozenset({name}))
    if part.environments:
        say_plan(render.text(part))
