"""The `studio` command: start the page, say where it is.

Not here: the page and its routes (studio), how errors are reported (console).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anonymotion.cli.console import reported, show, tell
from anonymotion.cli.options import MACHINE, Device, Library


def studio(
    source: Annotated[
        Path | None, typer.Argument(metavar="[VIDEO|FOLDER]", help="what to open; uploads work without")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="folder for results; without it they go when the studio closes"),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one")] = 0,
    host: Annotated[
        str, typer.Option("--host", help="address to listen on; any but this machine's own is reached by others")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open the page")] = True,
    upload_limit: Annotated[float, typer.Option("--upload-limit", min=0.001, help="GB of one upload")] = 4.0,
    cache_limit: Annotated[
        float,
        typer.Option("--cache-limit", min=0, help="GB of the disk for descriptors of frames", rich_help_panel=MACHINE),
    ] = 8.0,
    device: Device = "auto",
    library: Library = None,
) -> None:
    """Choose what to hide by clicking on it, on a local web page; see it, run it, review it."""
    with reported(False):
        from anonymotion.studio.security import is_loopback
        from anonymotion.studio.server import serve
        from anonymotion.studio.session import GIGABYTE, Options

        options = Options(
            root=source,
            library=library,
            output=output,
            device=device,
            upload_limit=round(upload_limit * GIGABYTE),
            cache_limit=round(cache_limit * GIGABYTE),
        )
        if not is_loopback(host):
            tell(
                f"{host} is reached from other machines: whoever learns the URL sees your videos, and the connection "
                "is not encrypted",
                warning=True,
            )

        def opened(url: str, page: Path) -> None:
            show(url)
            tell("the studio is open at this address; Ctrl-C closes it and deletes what it stored")
            if browser:
                import webbrowser

                webbrowser.open(page.as_uri())

        serve(options, host=host, port=port, opened=opened)
        tell("the studio is closed")
