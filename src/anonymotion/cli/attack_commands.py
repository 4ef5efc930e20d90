"""The `attack` command, and what `hide --self-test` runs: an adversary's view of a finished file.

Not here: the attacks (attacks), how errors are reported (console), shared flags (options).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anonymotion.cli.console import Interrupted, print_json, progress_bar, reported, tell
from anonymotion.cli.options import (
    FILES,
    AsJson,
    FlowWeights,
    Force,
    FrameRate,
    Preset,
    Quiet,
    parse_frame_rate,
    with_setting_flags,
)
from anonymotion.errors import AnonymotionError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from anonymotion.attacks.files import KeptMasks
    from anonymotion.attacks.outcome import Outcome
    from anonymotion.presets import Settings


@with_setting_flags
def attack(
    original: Annotated[Path, typer.Argument(help="what was hidden: the input of hide", metavar="ORIGINAL")],
    hidden: Annotated[Path, typer.Argument(help="what hide wrote", metavar="HIDDEN")],
    dump: Annotated[
        Path | None, typer.Option("--dump", help="folder that hide --dump wrote: masks and settings")
    ] = None,
    masks: Annotated[Path | None, typer.Option("--masks", help="folder that hide --export-masks wrote")] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="of the noise, if the adversary knows it; otherwise 0 is guessed")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help=".html or .json; shows the original: not for release", rich_help_panel=FILES),
    ] = None,
    frames: Annotated[int, typer.Option("--frames", help="length of the stretch that is attacked, 1 to 1000")] = 90,
    nulls: Annotated[
        int, typer.Option("--nulls", help="outputs of unrelated content that say what chance gives, from 50")
    ] = 50,
    trained: Annotated[
        bool, typer.Option("--trained", help="also train a small network to invert it (some minutes)")
    ] = False,
    quality: Annotated[
        int | None, typer.Option("--quality", help="of the encoder, if hide was given one", rich_help_panel=FILES)
    ] = None,
    frame_rate: FrameRate = "25",
    preset: Preset = "strict",
    flow_weights: FlowWeights = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    **settings: Any,
) -> None:
    """Play the adversary on a hidden video: what comes back of what was hidden, against what chance gives.

    Preset and settings are those that the video was hidden with; a dump knows them by itself.
    """
    if (dump is None) == (masks is None):
        raise typer.BadParameter("give one of --dump DIR and --masks DIR", param_hint="'--dump' / '--masks'")
    with reported(as_json):
        from anonymotion.attacks.files import DumpFolder, MaskFolder, Masks
        from anonymotion.attacks.outcome import attack_files
        from anonymotion.attacks.page import AttackReport
        from anonymotion.errors import SettingsError
        from anonymotion.presets import settings_for

        if not 1 <= frames <= 1000:
            raise SettingsError(f"--frames {frames} is not in 1..1000")
        if seed is not None and not 0 <= seed < 2**63:
            raise SettingsError(f"seed {seed} is not a whole number from 0 to 2**63 - 1")
        target = None if report is None else AttackReport(report, original, force=force)
        known: Masks
        if masks is not None:
            known, made_with = MaskFolder(masks), settings_for(preset, **settings)
        else:
            dumped = DumpFolder(dump or Path())
            known, made_with = dumped, dumped.settings
            if settings or preset != "strict":
                raise SettingsError("a dump knows the settings that it was made with: leave --preset and others out")
        with _counted(not quiet) as progress:
            outcome = attack_files(
                original,
                hidden,
                known,
                made_with,
                seed=seed,
                nulls=nulls,
                trained=trained,
                progress=progress,
                frames=frames,
                quality=quality,
                frame_rate=parse_frame_rate(frame_rate),
                flow_weights=flow_weights,
            )
        if target is not None:
            target.write(outcome)
        if as_json:
            print_json(outcome.as_json())
        _tell(outcome)
        if report is not None:
            tell(f"wrote {report}; it shows the original: not for release", warning=True)


def self_test(
    source: Path, output: Path, masks: KeptMasks, settings: Settings, *, quiet: bool, **options: Any
) -> dict[str, Any]:
    """Attack what `hide` has just written, say what came back, and give it as JSON.

    Raises OutputError if that cannot be done: the output is there by then, and the message says so.
    """
    from anonymotion.attacks.outcome import attack_files

    try:
        with _counted(not quiet) as progress:
            outcome = attack_files(source, output, masks, settings, progress=progress, **options)
    except AnonymotionError as error:
        raise OutputError(f"{output} is complete, but could not be attacked ({error}): look at all of it") from error
    except (Interrupted, KeyboardInterrupt):
        tell(f"the self-test was interrupted; {output} is complete, and was not tested", warning=True)
        raise typer.Exit(130) from None
    _tell(outcome)
    return outcome.as_json()


def _tell(outcome: Outcome) -> None:
    for line in outcome.lines():
        tell(f"attacked: {line}", warning=bool(outcome.recovered))


@contextmanager
def _counted(wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    """The progress bar, counting outputs instead of frames."""
    with progress_bar(wanted) as bar:
        if bar is None:
            yield None
            return
        from anonymotion.results import Progress

        yield lambda done, of: bar(Progress(done, of, "attack"))
