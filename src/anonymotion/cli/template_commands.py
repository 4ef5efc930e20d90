"""The `template` commands: look at templates, and add, try, share and remove one's own.

Not here: what a library is (templates, user_library), how errors are reported (console), shared flags (options).
"""

from __future__ import annotations

from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anonymotion.cli.console import print_json, reported, show, tell
from anonymotion.cli.options import (
    FILES,
    AllowTruncated,
    AsJson,
    BackboneWeights,
    Device,
    Force,
    FrameRate,
    Library,
    Preset,
    Source,
    parse_frame_rate,
    parse_numbers,
    with_setting_flags,
)

if TYPE_CHECKING:
    from anonymotion.backbone import Backbone
    from anonymotion.templates import Template, TemplateLibrary

template_app = typer.Typer(
    help="Look at the templates that attributes are made of; add, try and share your own.", no_args_is_help=True
)

AtTime = Annotated[
    str, typer.Option("--at-time", help="of the frame of a video: 3.2, 00:03.2, 1:02:03.5", rich_help_panel=FILES)
]


@template_app.command("list")
def template_list(library: Library = None, as_json: AsJson = False) -> None:
    """List attributes and groups, with the number of exemplars of each."""
    with reported(as_json):
        from anonymotion.registry import GROUPS
        from anonymotion.user_library import load_library

        found = load_library(library)
        own = {name: [t for t in found.own_templates if t.attribute == name] for name in found.attributes}
        pictures = {name: sorted({t.picture for t in found.exemplars(name)}) for name in found.attributes}
        if as_json:
            attributes = {
                name: {
                    "exemplars": len(found.exemplars(name)),
                    "pictures": pictures[name],
                    "own": sum(not t.negative for t in own[name]),
                    "own_negative": sum(t.negative for t in own[name]),
                }
                for name in found.attributes
            }
            groups = {name: list(members) for name, members in GROUPS.items()}
            print_json({"schema_version": 1, "attributes": attributes, "groups": groups})
            return
        for name in found.attributes:
            line = f"{name:10} {len(found.exemplars(name)):3} exemplars in {len(pictures[name])} pictures"
            negative = sum(t.negative for t in own[name])
            mine = f" ({len(own[name]) - negative} of them your own)" if len(own[name]) > negative else ""
            show(line + mine + (f", {negative} negative" if negative else ""))
        for name, members in GROUPS.items():
            show(f"{name:10} = {', '.join(members)}")


@template_app.command("show")
def template_show(
    attribute: Annotated[str | None, typer.Argument(help="attribute or group; all if left out")] = None,
    sheet: Annotated[Path | None, typer.Option("--sheet", help="write a picture of the templates to this PNG")] = None,
    force: Force = False,
    library: Library = None,
    as_json: AsJson = False,
) -> None:
    """Show what attributes are made of: ids, pictures, points, licences (Figure 3)."""
    with reported(as_json):
        from anonymotion.user_library import load_library

        found = load_library(library)
        names = found.expand([attribute] if attribute else found.attributes)
        rows = [
            _row(found, template)
            for name in names
            for template in (*found.exemplars(name), *(t for t in found.own_templates if t.negative))
            if template.attribute == name
        ]
        if sheet is not None:
            from anonymotion.exports import write_template_sheet

            write_template_sheet(found, names, sheet, force=force)
            tell(f"wrote {sheet}")
        if as_json:
            print_json({"schema_version": 1, "templates": rows})
            return
        for row in rows:
            where = f"at {row['point']}" if row["point"] else f"in {row['box']}"
            text = f"{row['subject']} ({row['kind']}; {row['licence']})".strip()
            sign = "not " if row["negative"] else ""
            show(_plain(f"{row['id']} {sign}{row['attribute']:9} {row['picture']} {where}: {text}"))


def _row(library: TemplateLibrary, template: Template) -> dict[str, Any]:
    picture = library.pictures[template.picture]
    return {
        "id": library.template_id(template)[:8],
        "attribute": template.attribute,
        "negative": template.negative,
        "own": template in library.own_templates,
        "picture": template.picture,
        "point": template.point,
        "box": template.box,
        "kind": picture.kind,
        "subject": picture.subject,
        "licence": picture.licence,
    }


def _plain(text: str) -> str:
    """`text` in one line without anything that a terminal would obey: an imported subject may hold anything."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


@template_app.command("add")
def template_add(
    source: Source,
    attribute: Annotated[str, typer.Option("--attribute", "-a", help="what it is a template of, e.g. logo")],
    at: Annotated[str | None, typer.Option("--at", help="the place as a point, X,Y in pixels of the picture")] = None,
    box: Annotated[str | None, typer.Option("--box", help="the place as a box, X0,Y0,X1,Y1; mostly better")] = None,
    negative: Annotated[bool, typer.Option("--negative", help="what the attribute is not: matches it less")] = False,
    at_time: AtTime = "0",
    subject: Annotated[str, typer.Option("--subject", help="what is seen, for people; kept with the template")] = "",
    licence: Annotated[str, typer.Option("--licence", help="of the picture; by default private")] = "",
    library: Library = None,
    frame_rate: FrameRate = "25",
    allow_truncated: AllowTruncated = False,
    as_json: AsJson = False,
) -> None:
    """Make a place in a picture or video a template: of an attribute of your own, or one more of a built-in one."""
    with reported(as_json):
        from anonymotion import video
        from anonymotion.template_crop import Mark, cut, is_uniform
        from anonymotion.user_library import UserLibrary

        x_y = parse_numbers(at, "--at", "X,Y") if at is not None else None
        corners = parse_numbers(box, "--box", "X0,Y0,X1,Y1") if box is not None else None
        mark = Mark(x_y, corners)  # type: ignore[arg-type]  # as many as were asked for
        seconds, rate = video.parse_time(at_time), parse_frame_rate(frame_rate)
        image = video.image_at(source, seconds, frame_rate=rate, allow_truncated=allow_truncated)
        crop = cut(image, mark)
        own = UserLibrary.at(library)
        change = own.add(crop, attribute, negative=negative, subject=subject, licence=licence)
        ((name, template),) = change.templates.items()
        picture = change.library.pictures[template.picture].path
        if is_uniform(crop):
            tell(f"the picture is nearly uniform at {at or box}: this template will match walls and sky", warning=True)
        if as_json:
            print_json({"schema_version": 1, **_row(change.library, template), "file": str(picture)})
        count = sum(t.attribute == template.attribute for t in change.library.templates)
        kind = "a negative template" if negative else "a template"
        tell(f"{name} is {kind} of {template.attribute}, which has {count} now")
        width, height = crop.place[2] - crop.place[0], crop.place[3] - crop.place[1]
        whole = " (all of it)" if (height, width) == image.shape[:2] else ""
        tell(f"a crop of {width}x{height} pixels of the picture{whole} is kept in {picture}")
        words = ["anonymotion", "template", "preview", str(source), "--attribute", template.attribute]
        words += ["--at-time", at_time] if seconds else []
        words += ["--library", str(own.folder)] if library else []
        tell(f"next: {join([*words, '-o', 'preview.png'])}")


@template_app.command("remove")
def template_remove(
    ids: Annotated[list[str] | None, typer.Argument(help="ids, as `template show` lists them")] = None,
    attribute: Annotated[
        str | None, typer.Option("--attribute", "-a", help="all templates of your own of this attribute")
    ] = None,
    library: Library = None,
    as_json: AsJson = False,
) -> None:
    """Remove templates of your own, and the crops that no template needs any more."""
    with reported(as_json):
        from anonymotion.user_library import UserLibrary

        own = UserLibrary.at(library)
        change = own.remove(ids or (), attribute)
        if as_json:
            print_json({"schema_version": 1, "removed": list(change.templates)})
        named = ", ".join(f"{name} ({template.attribute})" for name, template in change.templates.items())
        tell(f"removed {named} and crops that no template needs from {own.folder}")


@template_app.command("preview")
@with_setting_flags
def template_preview(
    source: Source,
    attribute: Annotated[str, typer.Option("--attribute", "-a", help="what to look for")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="PNG to write: picture and heat map")] = None,
    at_time: AtTime = "0",
    preset: Preset = "strict",
    device: Device = "auto",
    library: Library = None,
    frame_rate: FrameRate = "25",
    allow_truncated: AllowTruncated = False,
    backbone_weights: BackboneWeights = None,
    force: Force = False,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Show what an attribute would match in one picture: its outline, a heat map, and what was marked."""
    with reported(as_json):
        from dataclasses import asdict

        from anonymotion import video
        from anonymotion.template_preview import check_preview_path, preview_picture
        from anonymotion.user_library import load_library

        if output is not None:
            check_preview_path(output, source, force=force)
        found_library = load_library(library)
        found_library.expand([attribute])
        image = video.image_at(
            source,
            video.parse_time(at_time),
            frame_rate=parse_frame_rate(frame_rate),
            allow_truncated=allow_truncated,
        )
        found = preview_picture(
            image,
            attribute,
            output,
            library=found_library,
            force=force,
            preset=preset,
            device=device,
            backbone_weights=backbone_weights,
            **settings,
        )
        if as_json:
            print_json({"schema_version": 1, **asdict(found), "output": None if output is None else str(output)})
        tell(
            f"{found.attribute} is at most {found.highest:.2f} (at {found.at[0]},{found.at[1]}); {found.share:.1%} of "
            f"the picture reach the threshold of {found.threshold:g}"
        )
        if output is not None:
            tell(f"wrote {output}; it shows the input: not for release")


def _backbone() -> Backbone:
    from anonymotion.backbone import Backbone
    from anonymotion.device import choose_device
    from anonymotion.presets import PRESETS

    return Backbone.load(PRESETS["strict"].backbone, choose_device("auto").device)


@template_app.command("export")
def template_export(
    file: Annotated[Path, typer.Argument(help="file to write, e.g. logo.safetensors")],
    attributes: Annotated[str, typer.Option("--attribute", "-a", help="attributes of your own, with commas")],
    library: Library = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write templates of your own to one file, for somebody else or another machine."""
    with reported(as_json):
        from anonymotion.template_exchange import export_templates
        from anonymotion.user_library import UserLibrary

        done = export_templates(UserLibrary.at(library), file, attributes.split(","), _backbone, force=force)
        if as_json:
            print_json({"schema_version": 1, "file": str(file), "attributes": done.attributes})
        named = ", ".join(f"{count} of {name}" for name, count in done.attributes.items())
        tell(f"wrote templates ({named}) to {file}, {done.size_bytes / 1e6:.1f} MB")
        tell(f"it holds {done.pictures} crops of the pictures: give it only to whoever may see them", warning=True)


@template_app.command("import")
def template_import(
    file: Annotated[Path, typer.Argument(help="file that `template export` wrote")],
    library: Library = None,
    as_json: AsJson = False,
) -> None:
    """Check a file of templates, and add those that are not there yet to your own."""
    with reported(as_json):
        from anonymotion.registry import ATTRIBUTES
        from anonymotion.template_exchange import import_templates
        from anonymotion.user_library import UserLibrary

        own = UserLibrary.at(library)
        done = import_templates(own, file, _backbone)
        added = done.change.templates
        if as_json:
            rows = [_row(done.change.library, template) for template in added.values()]
            print_json({"schema_version": 1, "added": rows, "skipped": done.change.skipped, "compared": done.compared})
        names = sorted({template.attribute for template in added.values()})
        tell(
            f"added {len(added)} templates{' of ' if names else ''}{', '.join(names)} to {own.folder}; "
            f"{done.change.skipped} were there already"
        )
        if not done.compared:
            tell("the file was made with other weights: its descriptors were not compared, and are not used")
        changed = [name for name in names if name in ATTRIBUTES]
        if changed:
            tell(f"this changes what is hidden as {', '.join(changed)}, which is built in", warning=True)
        negative = sorted({template.attribute for template in added.values() if template.negative})
        if negative:
            tell(f"some are negative: less is hidden as {', '.join(negative)}", warning=True)
