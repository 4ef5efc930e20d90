"""The flags that commands share; every field of `Settings` becomes one by itself.

Not here: defaults and ranges of settings (presets), the commands (commands).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from fractions import Fraction
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from anonymotion.errors import SettingsError
from anonymotion.presets import PRESETS, Settings
from anonymotion.registry import ENGINES

PIXELS = "What decides each pixel (defaults are those of --preset strict)"
FILES = "Files"
CONTROLS = "What stays visible, where and when"
MACHINE = "Machine"

Source = Annotated[Path, typer.Argument(help="video, GIF, picture, or folder of numbered pictures", metavar="INPUT")]
Output = Annotated[Path, typer.Option("--output", "-o", help="file (its suffix is the format) or folder of PNGs")]
NAMES = "names with commas; groups: face, body, person; see `template list`"
Attributes = Annotated[str, typer.Option("--attributes", "-a", help=NAMES)]
AttributesOrNone = Annotated[
    str | None,
    typer.Option("--attributes", "-a", help=f"{NAMES}; --policy, --include, --masks and --method can do without"),
]
Preset = Annotated[str, typer.Option("--preset", help=" | ".join(PRESETS))]
PresetOrNone = Annotated[
    str | None, typer.Option("--preset", help=f"{' | '.join(PRESETS)}  [strict]", show_default=False)
]
Device = Annotated[str, typer.Option("--device", help="auto | cpu | cuda", rich_help_panel=MACHINE)]
Engine = Annotated[str, typer.Option("--engine", help=" | ".join(ENGINES), rich_help_panel=MACHINE)]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        help="what a run may take, e.g. 2G: of the process, or on CUDA of the graphics card; with less it works "
        "on fewer frames at a time",
        rich_help_panel=MACHINE,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="replace an existing output", rich_help_panel=FILES)]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document on standard output")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress bar")]
FrameRate = Annotated[
    str, typer.Option("--frame-rate", help="of a folder of pictures, e.g. 25 or 30000/1001", rich_help_panel=FILES)
]
AllowTruncated = Annotated[
    bool, typer.Option("--allow-truncated", help="accept less than the input promises", rich_help_panel=FILES)
]
Report = Annotated[
    Path | None,
    typer.Option("--report", help=".html or .json: what was done, which frames to review", rich_help_panel=FILES),
]
ReportThumbnails = Annotated[
    bool,
    typer.Option("--report-thumbnails", help="with small pictures of the output in it", rich_help_panel=FILES),
]
ReportSource = Annotated[
    bool,
    typer.Option("--report-source", help="with the name and the SHA-256 of the input in it", rich_help_panel=FILES),
]
Keep = Annotated[
    str | None, typer.Option("--keep", help="names that must stay visible, and win", rich_help_panel=CONTROLS)
]
SHAPE = "x0,y0,x1,y1 or 'x,y x,y x,y'; pixels or 20%; @00:10-00:20 at the end; repeatable"
Include = Annotated[
    list[str] | None, typer.Option("--include", help=f"shape to hide: {SHAPE}", rich_help_panel=CONTROLS)
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="shape to leave visible, in the same form", rich_help_panel=CONTROLS),
]
Spans = Annotated[
    list[str] | None,
    typer.Option("--span", help="hide only then: 00:10-00:20, 00:10- or -00:20; repeatable", rich_help_panel=CONTROLS),
]
OwnMasks = Annotated[
    Path | None,
    typer.Option(
        "--masks", help="folder of %06d.png, one per frame: 128 and above is hidden", rich_help_panel=CONTROLS
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", help="TOML file with any of this; flags count before it", rich_help_panel=CONTROLS),
]
BackboneWeights = Annotated[
    Path | None,
    typer.Option("--backbone-weights", help="weights for --backbone: safetensors or .pth", rich_help_panel=MACHINE),
]
FlowWeights = Annotated[
    Path | None,
    typer.Option(
        "--flow-weights",
        help="weights for RAFT: safetensors or .pth; without it the published ones are downloaded",
        rich_help_panel=MACHINE,
    ),
]
PersonWeights = Annotated[
    Path | None,
    typer.Option("--person-weights", help="weights for --person-mask: safetensors or .pth", rich_help_panel=MACHINE),
]

Library = Annotated[
    Path | None,
    typer.Option(
        "--library",
        help="folder of your own templates; otherwise $ANONYMOTION_LIBRARY, or one in your data folder",
        rich_help_panel=FILES,
    ),
]


def with_setting_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(..., **settings)` one flag per field of Settings; fields not given are not passed on."""
    defaults = PRESETS["strict"].as_json()
    flags: dict[str, tuple[Any, Any]] = {}
    for item in fields(Settings):
        if "help" not in item.metadata:
            continue
        kind: Any = {"bool": bool, "int": int, "float": float}.get(str(item.type), str)
        flag = f"--{item.name.replace('_', '-')}"
        declaration = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        text = f"{item.metadata['help']}  [{defaults[item.name]}]"
        option = typer.Option(declaration, help=text, rich_help_panel=PIXELS, show_default=False)
        flags[item.name] = (Annotated[kind | None, option], None)
    return with_flags(flags)(command)


def with_flags(flags: Mapping[str, tuple[Any, Any]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give `command(..., **more)` flags that commands share, after its own; what is None is not passed on.

    flags: annotation and default by name.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        annotations = get_type_hints(command, include_extras=True)
        annotations.pop("return")
        parameters = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                del annotations[parameter.name]
            else:
                parameters.append(
                    parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=annotations[parameter.name])
                )
        for name, (annotation, default) in flags.items():
            parameters.append(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            )
            annotations[name] = annotation

        def wrapped(**arguments: Any) -> None:
            command(**{name: value for name, value in arguments.items() if name not in flags or value is not None})

        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = annotations
        wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
        return wrapped

    return decorate


def parse_frame_rate(text: str) -> Fraction:
    """Frames per second from `25`, `29.97` or `30000/1001`.  Raises SettingsError."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise SettingsError(f"frame rate {text!r} is not a number: use e.g. 25, 29.97 or 30000/1001") from error


def parse_numbers(text: str, flag: str, names: str) -> tuple[float, ...]:
    """As many numbers with commas between them as `names` has, e.g. `120,80` for `X,Y`.  Raises SettingsError."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != len(names.split(",")) or not all(map(isfinite, numbers)):
        raise SettingsError(f"{flag} {text[:60]!r} is not of the form {names}: give pixels, with commas between them")
    return numbers
