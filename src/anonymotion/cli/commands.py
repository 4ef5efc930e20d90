"""The commands: parse, call the library once, print.

Not here: anything that decides a pixel, how errors are reported (console), flags (options), templates
(template_commands).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from anonymotion.cli.attack_commands import attack, self_test
from anonymotion.cli.console import means_of, print_json, progress_bar, reported, show, tell, what_of
from anonymotion.cli.data_commands import data_app
from anonymotion.cli.figure_commands import bench_app
from anonymotion.cli.options import (
    FILES,
    MACHINE,
    AllowTruncated,
    AsJson,
    Attributes,
    AttributesOrNone,
    BackboneWeights,
    Device,
    Engine,
    Exclude,
    FlowWeights,
    Force,
    FrameRate,
    Include,
    Keep,
    Library,
    MaxMemory,
    Output,
    OwnMasks,
    PersonWeights,
    PolicyFile,
    Preset,
    PresetOrNone,
    Quiet,
    Report,
    ReportSource,
    ReportThumbnails,
    Source,
    Spans,
    parse_frame_rate,
    with_setting_flags,
)
from anonymotion.cli.policy_commands import policy_app
from anonymotion.cli.studio_commands import studio
from anonymotion.cli.template_commands import template_app

app = typer.Typer(
    name="anonymotion",
    help="Hide who is in a video and keep what they do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(template_app, name="template")
app.add_typer(policy_app, name="policy")
app.add_typer(bench_app, name="bench")
app.add_typer(data_app, name="data")
app.command()(attack)
app.command()(studio)


def main() -> None:
    """Entry point of the `anonymotion` command."""
    try:
        app(standalone_mode=True)
    except BrokenPipeError:
        # whoever read our output has gone; point stdout elsewhere so that the interpreter's flush is quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@app.command()
@with_setting_flags
def hide(
    source: Source,
    output: Output,
    attributes: AttributesOrNone = None,
    preset: PresetOrNone = None,
    keep: Keep = None,
    include: Include = None,
    exclude: Exclude = None,
    span: Spans = None,
    masks: OwnMasks = None,
    policy: PolicyFile = None,
    device: Device = "auto",
    engine: Engine = "auto",
    max_memory: MaxMemory = None,
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
            help="folder for %06d.npz: what decided each pixel",
            rich_help_panel=FILES,
        ),
    ] = None,
    report: Report = None,
    report_thumbnails: ReportThumbnails = False,
    report_source: ReportSource = False,
    test_output: Annotated[
        bool, typer.Option("--self-test", help="attack the finished file, and say what came back (a minute or more)")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="reproducible noise, for tests only: not for release", rich_help_panel=MACHINE),
    ] = None,
    backbone_weights: BackboneWeights = None,
    flow_weights: FlowWeights = None,
    person_weights: PersonWeights = None,
    library: Library = None,
    **settings: Any,
) -> None:
    """Hide attributes in a video: their pixels become noise that moves with the scene."""
    if attributes is None and settings.get("method", "noise") == "noise" and not (include or masks or policy):
        raise typer.BadParameter("name what to hide, e.g. face,hair", param_hint="'--attributes' / '-a'")
    with reported(as_json) as completed:
        from anonymotion.policy import Policy
        from anonymotion.run import FileOptions, hide_video
        from anonymotion.user_library import load_library

        chosen = Policy() if policy is None else Policy.load(policy)
        chosen = chosen.overridden(
            keep=None if keep is None else keep.split(","), include=include, exclude=exclude, spans=span, masks=masks
        )
        kept = None
        if test_output:
            from anonymotion.attacks.files import KeptMasks

            kept = KeptMasks()
        files = FileOptions(
            audio=audio,  # type: ignore[arg-type]  # checked by FileOptions
            quality=quality,
            frame_rate=parse_frame_rate(frame_rate),
            force=force,
            allow_truncated=allow_truncated,
            allow_empty=allow_empty,
            masks=export_masks,
            dump=dump,
            report=report,
            report_thumbnails=report_thumbnails,
            report_source=report_source,
        )
        if dump is not None:
            tell(f"{dump} will hold clean frames: not for release", warning=True)
        with progress_bar(not quiet) as progress:
            result = hide_video(
                source,
                output,
                attributes,
                preset,
                policy=chosen,
                files=files,
                progress=progress,
                device=device,
                engine=engine,
                max_memory=max_memory,
                seed=seed,
                backbone_weights=backbone_weights,
                flow_weights=flow_weights,
                person_weights=person_weights,
                library=load_library(library),
                watch=kept,
                **settings,
            )
        attacked = None
        if kept is not None:
            made_with = chosen.overridden(preset=preset, settings=settings).effective_settings()
            options = {"frame_rate": files.frame_rate, "quality": quality, "flow_weights": flow_weights}
            attacked = self_test(source, output, kept, made_with, seed=seed, quiet=quiet, **options)
        completed()
        if as_json:
            print_json(result.as_json() if kept is None else {**result.as_json(), "self_test": attacked})
        for note in result.notes:
            tell(note, warning=note.startswith("kept visible"))
        for reason in result.not_for_release:
            tell(f"not for release: {reason}", warning=True)
        share, empty = result.coverage["hidden_share_mean"], result.coverage["frames_without_match"]
        tell(
            f"hid {what_of(result)} in {result.frames} frames ({share:.1%} of the "
            f"pixels) with {means_of(result)} on {result.device['name']}, "
            f"{result.frames_per_second:.1f} frames/s, audio: {result.audio}"
        )
        if empty:
            tell(f"nothing was found in {empty} of {result.frames} frames, which are as they were", warning=True)
        tell(f"wrote {result.output}. Best effort: review it before publishing.")


@app.command()
@with_setting_flags
def saliency(
    source: Source,
    output: Output,
    attributes: Attributes = "person",
    preset: Preset = "strict",
    device: Device = "auto",
    engine: Engine = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    force: Force = False,
    frame_rate: FrameRate = "25",
    allow_truncated: AllowTruncated = False,
    backbone_weights: BackboneWeights = None,
    flow_weights: FlowWeights = None,
    library: Library = None,
    **settings: Any,
) -> None:
    """Show where attributes are found: a heat map per attribute, as a video or a folder of pictures."""
    with reported(as_json):
        from anonymotion.run import FileOptions, saliency_video
        from anonymotion.user_library import load_library

        files = FileOptions(force=force, allow_truncated=allow_truncated, frame_rate=parse_frame_rate(frame_rate))
        with progress_bar(not quiet) as progress:
            result = saliency_video(
                source,
                output,
                attributes,
                preset,
                files=files,
                progress=progress,
                device=device,
                engine=engine,
                backbone_weights=backbone_weights,
                flow_weights=flow_weights,
                library=load_library(library),
                **settings,
            )
        if as_json:
            print_json(result.as_json())
        tell(f"wrote heat maps of {', '.join(result.attributes)} in {result.frames} frames to {result.output}")


@app.command()
def doctor(device: Device = "auto", engine: Engine = "auto", as_json: AsJson = False) -> None:
    """Say what is installed, which device would be used and why, and run a short self-test."""
    with reported(as_json):
        from anonymotion.doctor import examine

        report = examine(device, engine)
        if as_json:
            print_json(report)
        else:
            for name, value in report.items():
                if isinstance(value, dict):
                    show(f"{name}:")
                    for key, entry in value.items():
                        show(f"  {key}: {entry}")
                elif name != "schema_version":
                    show(f"{name}: {value}")
        if not report["ok"]:
            raise typer.Exit(1)


@app.command()
def sample(output: Annotated[Path, typer.Argument(help="video to write, e.g. clip.mp4")], force: Force = False) -> None:
    """Make a two-second clip with a person in it (a public-domain portrait), to try things on."""
    with reported(False):
        from anonymotion.sample import make_sample

        make_sample(output, force=force)
        tell(f"wrote {output}")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="print the version and exit", is_eager=True)] = False,
) -> None:
    """Hide who is in a video and keep what they do."""
    if version:
        from importlib.metadata import version as installed

        show(installed("anonymotion"))
        raise typer.Exit
