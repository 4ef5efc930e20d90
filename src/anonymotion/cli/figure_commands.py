"""The `bench` commands of figures and claims: draw a figure, measure a claim, choose attributes, compare groups.

Not here: what is measured and drawn (research), runs and their tables (bench_commands).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anonymotion.cli.bench_commands import EXPERIMENTS, Run, Shape, bench_app, check_file, give, write_text
from anonymotion.cli.console import reported, show, tell
from anonymotion.cli.options import Device, Force, Quiet, with_flags
from anonymotion.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from anonymotion.research.claims import Question
    from anonymotion.research.drawing import Drawn

__all__ = ["bench_app"]

OF_RUNS, OF_CLIPS = ("fig5", "fig7", "fig8"), ("fig4", "fig6")

Frames = Annotated[int, typer.Option("--frames", help="how many frames from the middle of each clip")]
Each = Annotated[int, typer.Option("--each", help="only every N-th clip, by name")]
DEFAULT_ATTRIBUTES = "torso,arm,leg,hair"
Names = Annotated[str, typer.Option("--attributes", "-a", help="what is hidden, with commas")]
Flows = Annotated[str, typer.Option("--flow", help="estimators that see the motion, with commas: dis,raft-small")]
FlowScale = Annotated[
    float, typer.Option("--flow-scale", help="resize frames for the flow; 4: as the published code for small ones")
]
FlowFile = Annotated[Path | None, typer.Option("--flow-weights", help="weights for RAFT")]
Methods = Annotated[str | None, typer.Option("--methods", help="instead of all, with commas: strict,iid,...")]
Qualities = Annotated[str, typer.Option("--qualities", help="of H.264, with commas; lower is better")]
ShortSide = Annotated[int | None, typer.Option("--short-side", help="of the pictures that are matched")]

# What a question is asked with, besides its clips: flag and default.
QUESTION_FLAGS = {
    "each": (Each, 1),
    "attributes": (Names, DEFAULT_ATTRIBUTES),
    "flow": (Flows, "dis"),
    "flow_scale": (FlowScale, 1.0),
    "flow_weights": (FlowFile, None),
    "methods": (Methods, None),
    "qualities": (Qualities, "13,23,33"),
    "short_side": (ShortSide, None),
}


@bench_app.command("figure")
@with_flags(QUESTION_FLAGS)
def bench_figure(
    figure: Annotated[str, typer.Argument(help="fig5, fig7, fig8 of a run; fig4, fig6 of clips")],
    sources: Annotated[list[Path], typer.Argument(help="a folder of a run; or clips, pictures, folders of frames")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for NAME.svg, NAME.png, NAME.csv")],
    frames: Frames = 12,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
    **asked: Any,
) -> None:
    """Draw a figure of the paper with one's own data: vector, PNG, and the numbers behind it."""
    with reported(False):
        from anonymotion.research.drawing import save

        if figure not in OF_RUNS + OF_CLIPS:
            raise SettingsError(f"figure {figure!r} is not known: use one of {', '.join(sorted(OF_RUNS + OF_CLIPS))}")
        _check_free(output, figure, force)
        if figure in OF_RUNS:
            drawn = [_of_run(figure, sources)]
        else:
            question = _question(sources, quiet, frames=frames, device=device, **asked)
            drawn = [_figure_4(question)] if figure == "fig4" else _figure_6(question)
        for path in save(drawn, output, force=force):
            tell(f"wrote {path}")


def _check_free(output: Path, figure: str, force: bool) -> None:
    """Before minutes of computing rather than after them."""
    there = sorted(output.glob(f"{figure}*.svg")) if output.is_dir() else []
    if there and not force:
        raise OutputError(f"{there[0]} exists: give another --output, or --force to replace it")
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file: give a folder as --output")


def _of_run(figure: str, sources: Sequence[Path]) -> Drawn:
    from anonymotion.research.figures import RUN_FIGURES
    from anonymotion.research.runs import RunFolder
    from anonymotion.research.summaries import Summary

    if len(sources) != 1:
        raise SettingsError(f"{figure} is of one run, and {len(sources)} were given: name one folder")
    return RUN_FIGURES[figure](Summary(RunFolder.open(sources[0])))


def _question(
    sources: Sequence[Path],
    quiet: bool,
    *,
    each: int,
    flow: str,
    qualities: str,
    methods: str | None = None,
    short_side: int | None = None,
    **fields: Any,
) -> Question:
    """A Question from flags; `fields` are its own."""
    from anonymotion.research.claims import Question

    if each < 1:
        raise SettingsError(f"--each is {each}: expected at least 1")
    try:
        steps = tuple(int(part) for part in qualities.split(",")) if qualities else ()
    except ValueError as error:
        raise SettingsError(f"--qualities {qualities!r} is not of the form 13,23,33") from error
    if methods is not None:
        fields["methods"] = tuple(methods.split(","))
    return Question(
        tuple(sorted(sources)[::each]),
        settings={} if short_side is None else {"short_side": short_side},
        flows=tuple(flow.split(",")),
        qualities=steps,
        clip_done=None if quiet else lambda name: tell(f"{name} is done"),
        **fields,
    )


def _figure_4(question: Question) -> Drawn:
    from anonymotion.presets import settings_for
    from anonymotion.research.pictures import figure_4, middle_frame
    from anonymotion.templates import TemplateLibrary

    library = TemplateLibrary.load()
    combined = library.expand(question.attributes.split(","))
    images = [(path.stem, middle_frame(path)) for path in question.clips]
    return figure_4(images, settings_for("strict", **question.settings), question.network(), library, combined)


def _figure_6(question: Question) -> list[Drawn]:
    from anonymotion.research.motion import measure
    from anonymotion.research.pictures import figure_6, figure_6_error

    estimators = question.estimators()
    hidden = list(question.hidden())
    found = measure(hidden, estimators, question.qualities, question.clip_done)
    return [figure_6(hidden[0], next(iter(estimators.values()))), figure_6_error(found)]


@bench_app.command("claim")
@with_flags(QUESTION_FLAGS)
def bench_claim(
    claim: Annotated[str, typer.Argument(help="motion | codec | pictures | dilution | overlap | runtime")],
    clips: Annotated[list[Path], typer.Argument(help="clips or folders of frames")],
    frames: Frames = 8,
    backbone_weights: Annotated[
        Path | None, typer.Option("--backbone-weights", help="of preset paper, for runtime")
    ] = None,
    shape: Shape = "text",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="write it to this file")] = None,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
    **asked: Any,
) -> None:
    """Measure a claim of the paper's text on clips."""
    with reported(False):
        from anonymotion.research.claims import CLAIMS

        if claim not in CLAIMS:
            raise SettingsError(f"claim {claim!r} is not known: use one of {', '.join(CLAIMS)}")
        check_file(output, shape, force)
        question = _question(clips, quiet, frames=frames, device=device, backbone_weights=backbone_weights, **asked)
        give(CLAIMS[claim].measure(question), shape, output, force)


@bench_app.command("fairness")
def bench_fairness(
    run: Run,
    data: Annotated[Path, typer.Option("--data", help="the data set as it was published")],
    label: Annotated[str, typer.Option("--label", help="label of the data set that makes the groups")] = "gender",
    method: Annotated[str, typer.Option("--method", help="of the run")] = "strict",
    copies: Annotated[
        Path | None, typer.Option("--copies", help="folder with the copies of the method and person-mask")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option("--groups", help="CSV with a label of the data set and yours (identity,gender)")
    ] = None,
    coverage: Annotated[
        Path | None, typer.Option("--coverage", help="rows.csv of benchmarks/coverage.py: recall by group")
    ] = None,
    attributes: Names = DEFAULT_ATTRIBUTES,
    shape: Shape = "text",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="write it to this file")] = None,
    force: Force = False,
) -> None:
    """Compare how much of people is covered, and how often they are recognised, between groups."""
    with reported(False):
        from anonymotion.research.fairness import fairness_sheet
        from anonymotion.research.runs import RunFolder
        from anonymotion.research.summaries import Summary

        check_file(output, shape, force)
        sheet = fairness_sheet(
            Summary(RunFolder.open(run)),
            data,
            copies,
            label,
            method,
            groups=groups,
            coverage=coverage,
            attributes=attributes.split(","),
        )
        give([sheet], shape, output, force)


@bench_app.command("select")
def bench_select(
    experiment: Annotated[Path, typer.Argument(help=f"experiment whose columns decide, e.g. {EXPERIMENTS}/...toml")],
    data: Annotated[Path, typer.Option("--data", help="the data set as it was published")],
    work: Annotated[Path, typer.Option("--work", help="folder for maps and features; an old one is gone on with")],
    output: Annotated[Path, typer.Option("--output", "-o", help="policy file for `hide --policy`")],
    candidates: Annotated[
        str | None, typer.Option("--candidates", help="attributes to choose from, with commas; all by default")
    ] = None,
    most: Annotated[int, typer.Option("--most", help="attributes in a subset")] = 4,
    scales: Annotated[str, typer.Option("--scales", help="factors of the thresholds, with commas")] = "0.75,1,1.25",
    short_side: ShortSide = None,
    table: Annotated[Path | None, typer.Option("--table", help="write the tables to this file, as Markdown")] = None,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Choose attributes and thresholds for a data set on its validation clips, and write them as a policy."""
    with reported(False, kept="maps and features are kept in --work, and the same command goes on"):
        from anonymotion.cli.options import parse_numbers
        from anonymotion.research.choosing import choose
        from anonymotion.research.datasets import open_dataset
        from anonymotion.research.experiments import load_experiment
        from anonymotion.research.maps import map_settings
        from anonymotion.research.tables import to_text

        for path in (output, table):
            check_file(path, "markdown", force)
        found = load_experiment(experiment)
        choice = choose(
            found,
            open_dataset(found.dataset, data),
            work,
            most=most,
            scales=parse_numbers(scales, "--scales", ",".join("x" * len(scales.split(",")))),
            attributes=candidates.split(",") if candidates else (),
            settings=map_settings(short_side=short_side),
            device=device,
            tell=None if quiet else _line(),
        )
        tables = choice.tables()
        if table is not None:
            give(tables, "markdown", table, force)
        show("\n".join(to_text(one) for one in tables).rstrip("\n"))
        candidate, score = choice.recommended
        comment = (
            f"# Chosen by `anonymotion bench select` on validation clips of {found.dataset}: {candidate}\n"
            f"# action {score.action:.1%}, privacy {score.privacy:.1%}, f {score.f:.3f} +- {score.error:.3f}\n"
        )
        write_text(output, comment + choice.policy().as_toml(), force)
        tell(f"next: anonymotion hide --policy {output}")


def _line() -> Any:
    """Says what is being measured when a candidate begins, not for each of its clips."""
    last = [""]

    def told(text: str) -> None:
        candidate = text.rsplit(":", 1)[0]
        if candidate != last[0]:
            last[0] = candidate
            tell(f"measuring {candidate}")

    return told
