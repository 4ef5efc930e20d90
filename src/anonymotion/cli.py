"""The command line: parse, call the library once, print.

Standard output carries results only (one JSON document with `--json`); progress, notes and errors go to
standard error.  Exit status: 0 done, 1 a known error in one line, 2 usage, 3 nothing matched, 130 interrupted.

Every field of `Settings` becomes a flag here by itself.  Not here: anything that decides a pixel.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from anonymotion.errors import AnonymotionError, SettingsError
from anonymotion.presets import PRESETS, Settings

if TYPE_CHECKING:
    from anonymotion.results import Progress, ProgressCallback

app = typer.Typer(
    name="anonymotion",
    help="Hide who is in a video and keep what they do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
template_app = typer.Typer(help="Look at the templates that attributes are made of.", no_args_is_help=True)
app.add_typer(template_app, name="template")

PIXELS = "What decides each pixel (defaults are those of --preset strict)"
FILES = "Files"
MACHINE = "Machine"

Source = Annotated[Path, typer.Argument(help="video, GIF, picture, or folder of numbered pictures", metavar="INPUT")]
Output = Annotated[Path, typer.Option("--output", "-o", help="file (its suffix is the format) or folder of PNGs")]
Attributes = Annotated[
    str, typer.Option("--attributes", "-a", help="names with commas; groups: face, body, person; see `template list`")
]
Preset = Annotated[str, typer.Option("--preset", help=" | ".join(PRESETS))]
Device = Annotated[str, typer.Option("--device", help="auto | cpu | cuda", rich_help_panel=MACHINE)]
Force = Annotated[bool, typer.Option("--force", help="replace an existing output", rich_help_panel=FILES)]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document on standard output")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress bar")]
FrameRate = Annotated[
    str, typer.Option("--frame-rate", help="of a folder of pictures, e.g. 25 or 30000/1001", rich_help_panel=FILES)
]
AllowTruncated = Annotated[
    bool, typer.Option("--allow-truncated", help="accept less than the input promises", rich_help_panel=FILES)
]
BackboneWeights = Annotated[
    Path | None,
    typer.Option("--backbone-weights", help="weights for --backbone: safetensors or .pth", rich_help_panel=MACHINE),
]
FlowWeights = Annotated[
    Path | None, typer.Option("--flow-weights", help="weights for RAFT: safetensors or .pth", rich_help_panel=MACHINE)
]


def main() -> None:
    """Entry point of the `anonymotion` command."""
    try:
        app(standalone_mode=True)
    except BrokenPipeError:
        # whoever read our output has gone; point stdout elsewhere so that the interpreter's flush is quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@contextmanager
def _reported(as_json: bool) -> Iterator[None]:
    """Turn errors into one line and an exit status; make a polite kill behave like Ctrl-C, so that files go."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except AnonymotionError as error:
        _fail(" ".join(str(error).split()), type(error).__name__, error.exit_status, as_json)
    except KeyboardInterrupt:
        _fail("interrupted; nothing was written", "Interrupted", 130, as_json)
    except Exception as error:
        if os.environ.get("ANONYMOTION_DEBUG"):
            raise
        message = " ".join(f"unexpected {type(error).__name__}: {error}".split())
        message += " (a defect of ours; nothing was written; ANONYMOTION_DEBUG=1 shows where)"
        _fail(message, "Unexpected", 1, as_json)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _fail(message: str, kind: str, status: int, as_json: bool) -> None:
    if as_json:
        _print_json({"schema_version": 1, "error": {"type": kind, "message": message, "exit_status": status}})
    print(f"anonymotion: error: {message}", file=sys.stderr)
    raise typer.Exit(status)


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def _with_setting_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(..., **settings)` one flag per field of Settings; fields not given are not passed on."""
    annotations = get_type_hints(command, include_extras=True)
    parameters = [
        p.replace(kind=p.KEYWORD_ONLY, annotation=annotations[p.name])
        for p in inspect.signature(command).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    ]
    del annotations["settings"], annotations["return"]
    defaults = PRESETS["strict"].as_json()
    names = []
    for item in fields(Settings):
        if "help" not in item.metadata:
            continue
        kind: Any = {"bool": bool, "int": int, "float": float}.get(str(item.type), str)
        flag = f"--{item.name.replace('_', '-')}"
        declaration = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        text = f"{item.metadata['help']}  [{defaults[item.name]}]"
        option = typer.Option(declaration, help=text, rich_help_panel=PIXELS, show_default=False)
        annotation = Annotated[kind | None, option]
        parameters.append(
            inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )
        annotations[item.name] = annotation
        names.append(item.name)

    def wrapped(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in names}
        command(**arguments, **{name: value for name, value in given.items() if value is not None})

    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = annotations
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    return wrapped


def _frame_rate(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise SettingsError(f"frame rate {text!r} is not a number: use e.g. 25, 29.97 or 30000/1001") from error


@contextmanager
def _progress_bar(show: bool) -> Iterator[ProgressCallback | None]:
    """A bar on standard error with frames, frames per second and remaining time."""
    if not show or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames  {task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("loading", total=None, speed="")

        def show_progress(progress: Progress) -> None:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(
                task,
                completed=progress.done,
                total=progress.total,
                description=progress.stage,
                speed=f"{speed:.1f}/s" if speed else "",
            )

        yield show_progress


def _tell(line: str, *, warning: bool = False) -> None:
    print(f"anonymotion: {'warning: ' if warning else ''}{line}", file=sys.stderr)


@app.command()
@_with_setting_flags
def hide(
    source: Source,
    output: Output,
    attributes: Attributes,
    preset: Preset = "strict",
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    force: Force = False,
    audio: Annotated[str, typer.Option("--audio", help="copy | drop", rich_help_panel=FILES)] = "copy",
    quality: Annotated[
        int | None,
        typer.Option("--quality", help="the encoder's constant rate factor; less is better", rich_help_panel=FILES),
    ] = None,
    frame_rate: FrameRate = "25",
    allow_truncated: AllowTruncated = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="write the output although nothing matched", rich_help_panel=FILES)
    ] = False,
    export_masks: Annotated[
        Path | None, typer.Option("--export-masks", help="folder for %06d.png, 255 = replaced", rich_help_panel=FILES)
    ] = None,
    dump: Annotated[
        Path | None,
        typer.Option(
            "--dump",
            help="folder for %06d.npz: what decided each pixel, with clean frames",
            rich_help_panel=FILES,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="reproducible noise, for tests only: not for release", rich_help_panel=MACHINE),
    ] = None,
    backbone_weights: BackboneWeights = None,
    flow_weights: FlowWeights = None,
    **settings: Any,
) -> None:
    """Hide attributes in a video: their pixels become noise that moves with the scene."""
    with _reported(as_json):
        from anonymotion.run import FileOptions, hide_video

        files = FileOptions(
            audio=audio,  # type: ignore[arg-type]  # checked by FileOptions
            quality=quality,
            frame_rate=_frame_rate(frame_rate),
            force=force,
            allow_truncated=allow_truncated,
            allow_empty=allow_empty,
            masks=export_masks,
            dump=dump,
        )
        if dump is not None:
            _tell(f"{dump} will hold clean frames: not for release", warning=True)
        with _progress_bar(not quiet) as progress:
            result = hide_video(
                source,
                output,
                attributes,
                preset,
                files=files,
                progress=progress,
                device=device,
                seed=seed,
                backbone_weights=backbone_weights,
                flow_weights=flow_weights,
                **settings,
            )
        if as_json:
            _print_json(result.as_json())
        for note in result.notes:
            _tell(note)
        for reason in result.not_for_release:
            _tell(f"not for release: {reason}", warning=True)
        share, empty = result.coverage["hidden_share_mean"], result.coverage["frames_without_match"]
        _tell(
            f"hid {', '.join(result.attributes)} in {result.frames} frames ({share:.1%} of the pixels; nothing found in "
            f"{empty} frames) with {result.backbone['name']} and {result.flow} on {result.device['name']}, "
            f"{result.frames_per_second:.1f} frames/s, audio: {result.audio}"
        )
        _tell(f"wrote {result.output}. Best effort: review it before publishing.")


@app.command()
@_with_setting_flags
def saliency(
    source: Source,
    output: Output,
    attributes: Attributes = "person",
    preset: Preset = "strict",
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    force: Force = False,
    frame_rate: FrameRate = "25",
    allow_truncated: AllowTruncated = False,
    backbone_weights: BackboneWeights = None,
    flow_weights: FlowWeights = None,
    **settings: Any,
) -> None:
    """Show where attributes are found: a heat map per attribute, as a video or a folder of pictures."""
    with _reported(as_json):
        from anonymotion.run import FileOptions, saliency_video

        files = FileOptions(force=force, allow_truncated=allow_truncated, frame_rate=_frame_rate(frame_rate))
        with _progress_bar(not quiet) as progress:
            result = saliency_video(
                source,
                output,
                attributes,
                preset,
                files=files,
                progress=progress,
                device=device,
                backbone_weights=backbone_weights,
                flow_weights=flow_weights,
                **settings,
            )
        if as_json:
            _print_json(result.as_json())
        _tell(f"wrote heat maps of {', '.join(result.attributes)} in {result.frames} frames to {result.output}")


@template_app.command("list")
def template_list(as_json: AsJson = False) -> None:
    """List attributes and groups, with the number of exemplars of each."""
    with _reported(as_json):
        from anonymotion.templates import GROUPS, TemplateLibrary

        library = TemplateLibrary.load()
        if as_json:
            attributes = {
                name: {
                    "exemplars": len(library.exemplars(name)),
                    "pictures": sorted({template.picture for template in library.exemplars(name)}),
                }
                for name in library.attributes
            }
            groups = {name: list(members) for name, members in GROUPS.items()}
            _print_json({"schema_version": 1, "attributes": attributes, "groups": groups})
            return
        for name in library.attributes:
            exemplars = library.exemplars(name)
            print(f"{name:10} {len(exemplars):3} exemplars in {len({t.picture for t in exemplars})} pictures")
        for name, members in GROUPS.items():
            print(f"{name:10} = {', '.join(members)}")


@template_app.command("show")
def template_show(
    attribute: Annotated[str | None, typer.Argument(help="attribute or group; all if left out")] = None,
    sheet: Annotated[Path | None, typer.Option("--sheet", help="write a picture of the templates to this PNG")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Show what attributes are made of: pictures, points, licences (Figure 3)."""
    with _reported(as_json):
        from anonymotion.templates import TemplateLibrary

        library = TemplateLibrary.load()
        names = library.expand([attribute] if attribute else library.attributes)
        rows = [
            {
                "attribute": template.attribute,
                "picture": template.picture,
                "point": template.point,
                "box": template.box,
                "kind": library.pictures[template.picture].kind,
                "subject": library.pictures[template.picture].subject,
                "licence": library.pictures[template.picture].licence,
            }
            for name in names
            for template in library.exemplars(name)
        ]
        if sheet is not None:
            from anonymotion.exports import write_template_sheet

            write_template_sheet(library, names, sheet, force=force)
            _tell(f"wrote {sheet}")
        if as_json:
            _print_json({"schema_version": 1, "templates": rows})
            return
        for row in rows:
            where = f"at {row['point']}" if row["point"] else f"in {row['box']}"
            print(f"{row['attribute']:9} {row['picture']} {where}: {row['subject']} ({row['kind']}; {row['licence']})")


@app.command()
def doctor(device: Device = "auto", as_json: AsJson = False) -> None:
    """Say what is installed, which device would be used and why, and run a short self-test."""
    with _reported(as_json):
        from anonymotion.doctor import examine

        report = examine(device)
        if as_json:
            _print_json(report)
        else:
            for name, value in report.items():
                if isinstance(value, dict):
                    print(f"{name}:")
                    for key, entry in value.items():
                        print(f"  {key}: {entry}")
                elif name != "schema_version":
                    print(f"{name}: {value}")
        if not report["ok"]:
            raise typer.Exit(1)


@app.command()
def sample(output: Annotated[Path, typer.Argument(help="video to write, e.g. clip.mp4")], force: Force = False) -> None:
    """Make a two-second clip with a person in it (a public-domain portrait), to try things on."""
    with _reported(False):
        from anonymotion.sample import make_sample

        make_sample(output, force=force)
        _tell(f"wrote {output}")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="print the version and exit", is_eager=True)] = False,
) -> None:
    """Hide who is in a video and keep what they do."""
    if version:
        from importlib.metadata import version as installed

        print(installed("anonymotion"))
        raise typer.Exit
