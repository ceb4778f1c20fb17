"""The command that runs the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from containarium.cli.errors import CommandError
from containarium.cli.image import duration
from containarium.cli.wiring import wiring

ENDPOINT = "CONTAINARIUM_METADATA_ENDPOINT"


def daemon(
    context: typer.Context,
    manifests: Annotated[
        Path | None,
        typer.Option(
            "--manifests",
            "-f",
            help="Folder of manifests. Default: /etc/containarium/environments. It may appear later.",
            show_default=False,
        ),
    ] = None,
    metrics: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where /metrics, /healthz and /readyz are served; empty: nowhere.")
    ] = "127.0.0.1:9465",
    spot: Annotated[
        str, typer.Option(metavar="CLOUD", help="Whose spot notices to heed: auto, gce, aws or off.")
    ] = "auto",
    metadata: Annotated[
        str,
        typer.Option(
            metavar="URL", envvar=ENDPOINT, help="The metadata server, if not the cloud's own.", show_default=False
        ),
    ] = "",
    probe: Annotated[bool, typer.Option(help="Try everybody's SSH for real now and then.")] = True,
    keep_recipes: Annotated[
        str, typer.Option(metavar="DURATION", help="How long a baked image stays that nobody uses, such as 30d.")
    ] = "30d",
    resync: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, max=3600, help="Between two looks at everything.")
    ] = 60.0,
    debug: Annotated[bool, typer.Option("--debug", help="Log every action.")] = False,
    address: Annotated[str, typer.Option(hidden=True)] = "",
    port: Annotated[str, typer.Option(hidden=True)] = "",
    mtls: Annotated[bool, typer.Option("--mtls", hidden=True)] = False,
) -> None:
    """Keep this host as its manifests declare, for ever: watch, repair, retire, survive. systemd runs this.

    SIGHUP looks at everything anew, SIGTERM ends it. Whatever it was doing is finished by the next one.
    """
    if address or port or mtls:  # the original's, whose daemon served
        raise CommandError("the daemon serves nobody", "containarium api --mtls --address ADDRESS:PORT does")
    if spot not in ("auto", "gce", "aws", "off"):
        raise CommandError(f"there is no cloud {spot!r} for --spot", "write auto, gce, aws or off")
    wired = wiring(context)
    wired.require_root("daemon")
    unused_for = duration(keep_recipes, "--keep-recipes")
    from containarium.reconcile.assembly import Options, run
    from containarium.reconcile.rhythm import Rhythm

    options = Options(
        manifests=manifests or wired.settings.manifests,
        metrics=metrics,
        spot=spot,
        metadata=metadata,
        probe=probe,
        keep_recipes=unused_for,
        rhythm=Rhythm(resync=resync),
        debug=debug,
    )
    run(wired.settings, options)
