"""The `data` commands: check a copy of a data set, and make a copy of it in which something is hidden.

Not here: layouts, checks and copies (research), how errors are reported (console), shared flags (options).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anonymotion.cli.console import print_json, progress_bar, reported, show, tell
from anonymotion.cli.options import (
    FILES,
    MACHINE,
    NAMES,
    AsJson,
    BackboneWeights,
    Device,
    Engine,
    FlowWeights,
    Library,
    PersonWeights,
    Quiet,
    with_setting_flags,
)

if TYPE_CHECKING:
    from anonymotion.research.checks import CheckReport
    from anonymotion.research.obfuscate import CopyResult
    from anonymotion.research.variants import Variant

data_app = typer.Typer(
    help="Data sets of the research harness: check a copy, hide something in all of it.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="ipn | sbu | kth | weizmann | folder (any, with a CSV)", metavar="NAME")]
Root = Annotated[Path, typer.Argument(help="folder that holds it as it was published, or a copy of ours")]


@data_app.command("check")
def data_check(
    name: Name,
    root: Root,
    quick: Annotated[bool, typer.Option("--quick", help="read only the first frame of each video")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say what a data set holds and what is wrong with this copy of it: a sentence per problem, exit status 1."""
    with reported(as_json):
        from anonymotion.research.checks import check_dataset
        from anonymotion.research.datasets import open_dataset

        with progress_bar(not quiet) as progress:
            report = check_dataset(open_dataset(name, root), quick=quick, progress=progress)
        if as_json:
            print_json({"schema_version": 1, **asdict(report), "root": str(report.root)})
        else:
            _show_report(report)
        for note in report.notes:
            tell(note)
        for problem in report.problems:
            tell(problem, warning=True)
        if report.problems:
            tell(
                f"{len(report.problems)} problems: {len(report.missing)} videos missing, "
                f"{len(report.unreadable)} unreadable"
            )
            raise typer.Exit(1)


def _show_report(report: CheckReport) -> None:
    frames = "" if report.frames is None else f", {report.frames} frames"
    show(f"{report.name}: {report.clips} clips of {report.videos} videos{frames}")
    for task, classes in report.labels.items():
        show(f"{task}: {len(classes)} classes, {', '.join(f'{name} {count}' for name, count in classes.items())}")
    show(f"{'split':<18} {'task':<10} {'train':>6} {'valid.':>6} {'test':>6} {'chance':>7}")
    for split in report.splits:
        sizes = f"{split.train:>6} {split.validation:>6} {split.test:>6}"
        show(f"{split.name:<18} {split.task:<10} {sizes} {split.chance:>7.1%}")


@data_app.command("obfuscate")
@with_setting_flags
def data_obfuscate(
    name: Name,
    root: Root,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the copy; with --variants of one copy each")],
    attributes: Annotated[
        str | None, typer.Option("--attributes", "-a", help=f"{NAMES}; by default the paper's for this data set")
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="strict | paper | paper-debiased  [strict]")] = None,
    variants: Annotated[
        str | None,
        typer.Option(
            "--variants",
            help="named copies instead of one, e.g. source,strict,iid,pixelate-4,person-removed; strict@torso+arm "
            "hides these, strict+neutral has the background replaced",
            rich_help_panel=FILES,
        ),
    ] = None,
    neutral: Annotated[
        bool, typer.Option("--neutral-background", help="the same grey around everybody", rich_help_panel=FILES)
    ] = False,
    looks: Annotated[
        Path | None,
        typer.Option(
            "--looks",
            help="keep here what was found, for other copies; it shows outlines of people",
            rich_help_panel=FILES,
        ),
    ] = None,
    test_key: Annotated[
        int | None,
        typer.Option("--test-key", help="reproducible noise, for tests only: not for release", rich_help_panel=MACHINE),
    ] = None,
    device: Device = "auto",
    engine: Engine = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
    backbone_weights: BackboneWeights = None,
    flow_weights: FlowWeights = None,
    person_weights: PersonWeights = None,
    library: Library = None,
    **settings: Any,
) -> None:
    """Make a lossless copy of a data set with something hidden in every video; a killed run goes on where it was."""
    with reported(as_json, kept="videos that were finished are kept, and the same command goes on"):
        from anonymotion.research.datasets import open_dataset
        from anonymotion.research.looks import LookStore
        from anonymotion.research.obfuscate import make_copies
        from anonymotion.research.variants import NEUTRAL_SUFFIX, OWN_SETTINGS, make_variants
        from anonymotion.user_library import load_library

        dataset = open_dataset(name, root)
        chosen = make_variants(
            variants.split(",") if variants else [OWN_SETTINGS + (NEUTRAL_SUFFIX if neutral else "")],
            name,
            attributes,
            test_key=test_key,
            preset=preset,
            settings=settings,
            device=device,
            engine=engine,
            backbone_weights=backbone_weights,
            flow_weights=flow_weights,
            person_weights=person_weights,
            library=load_library(library),
        )
        folders = {variant.name: out / variant.name if variants else out for variant in chosen}
        with progress_bar(not quiet) as progress:
            result = make_copies(
                dataset, folders, chosen, store=None if looks is None else LookStore(looks), progress=progress
            )
        _tell_result(result, chosen, as_json)


def _tell_result(result: CopyResult, variants: list[Variant], as_json: bool) -> None:
    if as_json:
        folders = {name: str(folder) for name, folder in result.folders.items()}
        print_json({"schema_version": 1, **asdict(result), "folders": folders})
    for variant in variants:
        for reason in variant.not_for_release():
            tell(f"{variant.name} is not for release: {reason}", warning=True)
    places = ", ".join(str(folder) for folder in result.folders.values())
    tell(f"wrote {result.made} videos ({result.there} were there already) to {places} in {result.seconds:.0f} s")
    for video, why in result.failed.items():
        tell(f"{video} could not be copied: {why}", warning=True)
    if result.failed:
        tell(f"{len(result.failed)} videos failed and are in none of the copies that lacked them")
        raise typer.Exit(1)
