"""The `bench` commands: run experiments, print their tables, list them.

Not here: what an experiment is (research.experiments), how it is run (research.bench), the numbers of its tables
(research.summaries).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anonymotion.cli.console import print_json, reported, show, tell
from anonymotion.cli.options import AsJson, Device, Force, Quiet
from anonymotion.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from anonymotion.research.bench import JobProgress
    from anonymotion.research.tables import Table

bench_app = typer.Typer(help="Run the paper's experiments on data sets and print their tables.", no_args_is_help=True)

EXPERIMENTS = Path("experiments")

Run = Annotated[Path, typer.Argument(help="folder of a run, as `bench run` writes it", metavar="RUN")]
Shape = Annotated[str, typer.Option("--format", help="text | csv | markdown | latex")]


@bench_app.command("run")
def bench_run(
    experiment: Annotated[Path, typer.Argument(help="experiment to run, e.g. experiments/weizmann_table2.toml")],
    data: Annotated[Path, typer.Option("--data", help="the data set as it was published")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the run; an old one is gone on with")],
    copies: Annotated[
        Path | None, typer.Option("--copies", help="folder with one copy of the data set per method, by name")
    ] = None,
    networks: Annotated[
        str | None, typer.Option("--networks", help="only these, with commas: a run can be done in parts")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="leave out methods whose copies are not there yet")
    ] = False,
    pretrained: Annotated[
        str | None,
        typer.Option("--pretrained", help="hub | none | folder with NETWORK.safetensors; else the experiment's own"),
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="change a setting: training.max_epochs=5; may be repeated")
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train and test all networks of an experiment; running it again goes on where it was."""
    kept = f"what was predicted, and the last epoch of what was being trained, is kept in {output}, if it was begun"
    with reported(as_json, kept=f"{kept}; the same command goes on"):
        from dataclasses import asdict, replace

        from anonymotion.research.bench import Places, run_experiment
        from anonymotion.research.experiments import load_experiment

        found = load_experiment(experiment, change or ())
        if pretrained is not None:
            found = replace(found, pretrained=pretrained)
        with _progress(not quiet) as progress:
            done = run_experiment(
                found,
                Places(data, copies, output),
                networks=networks.split(",") if networks else (),
                allow_missing=allow_missing,
                device=device,
                progress=progress,
            )
        if as_json:
            print_json({"schema_version": 1, "run": str(output), **asdict(done)})
        if done.absent:
            tell(f"left out for want of copies: {', '.join(done.absent)}", warning=True)
        tell(f"{done.now} trainings done now, {done.before} were done already; features of {done.features} clips")
        tell(f"next: anonymotion bench table {output}")


@contextmanager
def _progress(wanted: bool) -> Iterator[JobProgress | None]:
    """A bar on standard error with trainings, what is being done and the remaining time."""
    import sys

    if not wanted or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=3600) as bar:
        task = bar.add_task("starting", total=None)

        def show_progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what.replace("[", "("))

        yield show_progress


@bench_app.command("table")
def bench_table(
    run: Run,
    shape: Shape = "text",
    kind: Annotated[
        str, typer.Option("--table", help="main | differences | source (Table 1) | networks (each) | leakage | all")
    ] = "main",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="write it to this file")] = None,
    force: Force = False,
) -> None:
    """Print the table of a run, from its predictions alone."""
    with reported(False):
        from anonymotion.research.runs import RunFolder
        from anonymotion.research.summaries import Summary

        summary = Summary(RunFolder.open(run))
        check_file(output, shape, force)
        if kind not in (*summary.TABLES, "all"):
            raise SettingsError(f"--table {kind} is not known: use one of {', '.join(summary.TABLES)}, all")
        kinds = summary.TABLES if kind == "all" else {kind: summary.TABLES[kind]}
        give([make(summary) for make in kinds.values()], shape, output, force)


def check_file(path: Path | None, shape: str, force: bool) -> None:
    """Raise SettingsError for a format that tables do not have, OutputError for a file that is there already."""
    from anonymotion.research.tables import FORMATS

    if shape not in FORMATS:
        raise SettingsError(f"--format {shape} is not known: use one of {', '.join(FORMATS)}")
    if path is not None and path.exists() and not force:
        raise OutputError(f"{path} exists: give another name, or --force to replace it")


def give(tables: Sequence[Table], shape: str, output: Path | None, force: bool) -> None:
    """Print tables in a format, or write them to a file."""
    from anonymotion.research.tables import FORMATS

    text = "\n".join(FORMATS[shape](table) for table in tables)
    if output is None:
        show(text.rstrip("\n"))
    else:
        write_text(output, text, force)


def write_text(path: Path, text: str, force: bool) -> None:
    """The whole file or none.  Raises OutputError."""
    from anonymotion.target import whole_file

    with whole_file(path, force=force) as partial:
        partial.write_text(text, encoding="utf-8")
    tell(f"wrote {path}")


@bench_app.command("speed")
def bench_speed(
    run: Run,
    data: Annotated[Path, typer.Option("--data", help="the data set as it was published")],
    frames: Annotated[int, typer.Option("--frames", help="how many frames each method is timed on")] = 25,
    short_side: Annotated[
        int | None, typer.Option("--short-side", help="as the copies were made; by default the preset's")
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Time the methods of a run on this machine; its table then has a column for it."""
    with reported(as_json):
        from anonymotion.research.runs import RunFolder
        from anonymotion.research.speed import measure_speed

        found = {}
        for name, seconds in measure_speed(RunFolder.open(run), data, frames, device=device, short_side=short_side):
            found[name] = seconds
            if not as_json:
                show(f"{name:16} {1000 * seconds:7.0f} ms/frame")
        if as_json:
            print_json({"schema_version": 1, "seconds_per_frame": found})


@bench_app.command("list")
def bench_list(
    folder: Annotated[Path, typer.Argument(help="folder of experiments")] = EXPERIMENTS, as_json: AsJson = False
) -> None:
    """List experiments: what each needs and takes."""
    with reported(as_json):
        from anonymotion.research.experiments import load_experiment
        from anonymotion.research.runs import plan

        files = sorted(folder.glob("*.toml"))
        if not files:
            raise SettingsError(f"no experiments in {folder}: run this in the project's folder, or name one")
        found = [(file, load_experiment(file)) for file in files]
        if as_json:
            rows = [
                {
                    "file": str(file),
                    "title": one.title,
                    "dataset": one.dataset,
                    "needs": one.needs,
                    "takes": one.takes,
                    "trainings": len(plan(one)),
                }
                for file, one in found
            ]
            print_json({"schema_version": 1, "experiments": rows})
            return
        for file, one in found:
            show(f"{file}: {one.title}")
            show(f"  needs  {one.needs}")
            show(f"  takes  {one.takes} ({len(plan(one))} trainings)")
