"""Templates as one file: export some of a user's own, check and import what somebody sent.

The file is safetensors: `picture/<id>` holds the bytes of a PNG as uint8, `descriptors/<n>` (N, D) float32 the N
templates under the n-th spec of the metadata, which also has the library.toml and the weights' fingerprint.

What a template says is what gets hidden, so a file is believed in nothing: all of it is checked before anything is
written, its descriptors are only compared with those of its crops, and never used.

Not here: where own templates are kept (user_library).
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anonymotion.backbone import Backbone
from anonymotion.errors import AnonymotionError, OutputError, TemplateError
from anonymotion.presets import PRESETS
from anonymotion.registry import FeatureSpec
from anonymotion.target import check_target, reason, whole_file
from anonymotion.template_bank import compute_vectors
from anonymotion.template_crop import LARGEST_RATIO, LARGEST_SHORT_SIDE, Mark
from anonymotion.templates import TemplateLibrary
from anonymotion.user_library import Change, UserLibrary, check_texts, library_text

SUFFIX = ".safetensors"
FORMAT = "anonymotion-templates"
FORMAT_VERSION = 1

MOST_PICTURES = 200
MOST_TEMPLATES = 1000
MOST_FILE_BYTES = 512 * 2**20
MOST_PICTURE_BYTES = 32 * 2**20
SMALLEST_SIDE = 16
# Descriptors of one picture on two machines differ in the last digits; those of two pictures differ by far more.
LEAST_COSINE = 0.99

_PNG_HEADER = struct.Struct(">8sI4sIIBBBBB")


@dataclass(frozen=True)
class Exported:
    """What was written: templates per attribute, pictures, and bytes."""

    attributes: dict[str, int]
    pictures: int
    size_bytes: int


@dataclass(frozen=True)
class Imported:
    """What was taken; `compared`: how many descriptors of the file were made again from its crops, and agreed."""

    change: Change
    compared: int


def strict_specs(attributes: Iterable[str]) -> list[FeatureSpec]:
    """The raw specs that the strict preset matches these attributes with."""
    return list(dict.fromkeys(PRESETS["strict"].spec_of(name).raw for name in attributes))


def export_templates(
    own: UserLibrary, path: Path, attributes: Iterable[str], network: Callable[[], Backbone], *, force: bool = False
) -> Exported:
    """Write the own templates of `attributes` to `path`, a .safetensors file.

    network: loads the backbone; asked only once everything else is known to be right, because it takes a while.

    Raises TemplateError if there is none of an attribute; OutputError if the path cannot be written, or exists and
    `force` is not set.
    """
    from safetensors.torch import save

    if path.suffix != SUFFIX:
        raise OutputError(f"{path} does not end in {SUFFIX}: templates are exported to a {SUFFIX} file")
    check_target(path, None, force=force)
    chosen = _own_templates(own, attributes)
    specs = strict_specs(template.attribute for template in chosen.templates)
    backbone = network()
    vectors = compute_vectors(chosen, backbone, specs)
    tensors = {f"descriptors/{n}": vectors[spec]["templates"].float().contiguous() for n, spec in enumerate(specs)}
    for name, picture in chosen.pictures.items():
        picture.read()  # a damaged one stops here, and not at whoever gets the file
        tensors[f"picture/{name}"] = torch.frombuffer(bytearray(picture.path.read_bytes()), dtype=torch.uint8)
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "library": library_text(chosen.folder, chosen.pictures.values(), chosen.templates),
        "backbone_fingerprint": backbone.fingerprint,
        "specs": json.dumps([asdict(spec) for spec in specs]),
    }
    data = save(tensors, metadata)
    with whole_file(path, force=force) as partial:
        partial.write_bytes(data)
    counts = {name: sum(t.attribute == name for t in chosen.templates) for name in _names(chosen)}
    return Exported(counts, len(chosen.pictures), len(data))


def _names(library: TemplateLibrary) -> list[str]:
    return list(dict.fromkeys(template.attribute for template in library.templates))


def _own_templates(own: UserLibrary, attributes: Iterable[str]) -> TemplateLibrary:
    """The part of a user's library with these attributes; built-in templates are with everybody already."""
    joined, mine = own.joined(), own.read()
    wanted = list(dict.fromkeys(name.strip().lower() for name in attributes))
    for name in wanted:
        if mine is None or name not in _names(mine):
            why = "only built-in ones" if name in joined.attributes else joined.unknown(name)
            raise TemplateError(f"there is no template of your own of {name!r} to export: {why}")
    assert mine is not None  # noqa: S101 - for mypy: there is at least one name
    templates = tuple(t for t in mine.templates if t.attribute in wanted)
    used = {t.picture for t in templates}
    pictures = {name: picture for name, picture in mine.pictures.items() if name in used}
    return TemplateLibrary(mine.folder, pictures, templates, mine.digest)


def import_templates(own: UserLibrary, path: Path, network: Callable[[], Backbone]) -> Imported:
    """Check the whole of an exported file, then add its templates to a user's library; `network` as for export.

    Templates that are there already are skipped.  Raises TemplateError, and then nothing has changed.
    """
    metadata, tensors = _read_file(path)
    try:
        incoming = _checked_library(metadata, tensors)
        compared = _check_descriptors(metadata, tensors, incoming, network)
    except TemplateError as error:
        raise TemplateError(f"{path} was not imported: {error}") from error
    return Imported(own.take(incoming), compared)


def _read_file(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and arrays of a safetensors file; nothing in such a file can be run."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != SUFFIX:
        raise TemplateError(f"{path} does not end in {SUFFIX}: only what `template export` wrote can be imported")
    tensors: dict[str, np.ndarray] = {}
    try:
        size = path.stat().st_size
        if size > MOST_FILE_BYTES:
            raise TemplateError(f"{path} has {size / 2**20:.0f} MB: at most {MOST_FILE_BYTES // 2**20} are read")
        with safe_open(path, framework="numpy") as stream:
            metadata = stream.metadata() or {}
            _check_format(path, metadata)
            for name in stream.keys():  # noqa: SIM118 - not a dict
                part = stream.get_slice(name)
                kind = {"picture": ("U8", 1), "descriptors": ("F32", 2)}.get(name.partition("/")[0])
                if kind != (part.get_dtype(), len(part.get_shape())):
                    raise TemplateError(f"{path} was not imported: tensor {name[:40]!r} is none of a template file")
                tensors[name] = stream.get_tensor(name)
    except OSError as error:
        raise TemplateError(f"{path} cannot be read ({reason(error)}): name a file of `template export`") from error
    except (SafetensorError, ValueError) as error:
        raise TemplateError(
            f"{path} is no whole template file ({' '.join(str(error).split())[:120]}): get it again"
        ) from error
    return metadata, tensors


def _check_format(path: Path, metadata: dict[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise TemplateError(f"{path} holds no templates: only what `template export` wrote can be imported")
    version = metadata.get("format_version", "")
    if not (version.isascii() and version.isdigit() and int(version) >= 1):
        raise TemplateError(f"{path} has format version {version[:20]!r}: expected {FORMAT_VERSION}; get it again")
    if int(version) > FORMAT_VERSION:
        raise TemplateError(
            f"{path} has format version {version[:20]}, and this release reads {FORMAT_VERSION}: upgrade anonymotion"
        )


def _checked_library(metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> TemplateLibrary:
    """The library of the metadata, its pictures with their content; everything that needs no network is checked."""
    folder = Path("library")  # nothing is read or written there
    text = metadata.get("library", "")
    _check_version_first(text)
    library = TemplateLibrary.parse(text.encode(), folder / "library.toml")
    if len(library.pictures) > MOST_PICTURES or len(library.templates) > MOST_TEMPLATES:
        raise TemplateError(
            f"it has {len(library.pictures)} pictures and {len(library.templates)} templates: at most {MOST_PICTURES} "
            f"and {MOST_TEMPLATES} are taken"
        )
    named = {f"picture/{name}" for name in library.pictures}
    found = {name for name in tensors if name.startswith("picture/")}
    if named != found:
        raise TemplateError("its list of pictures is not what it holds: get it again")
    if set(library.pictures) != {t.picture for t in library.templates}:
        raise TemplateError("it has a picture without a template: get it again")
    pictures = {}
    for name, picture in library.pictures.items():
        data = tensors[f"picture/{name}"].tobytes()
        digest = hashlib.sha256(data).hexdigest()
        if picture.sha256 != digest or name != digest[:16] or picture.path != folder / "pictures" / f"{name}.png":
            raise TemplateError(f"picture {name[:40]!r} is not the one recorded: get it again")
        if picture.kind != "own":
            raise TemplateError(f"picture {name!r} is of kind {picture.kind!r}: only own ones are taken")
        check_texts(picture)
        width_height = _check_png(name, data)
        for template in library.templates:
            if template.picture == name:
                Mark(template.point, template.box).check(width_height)
        pictures[name] = replace(picture, content=data)
    return replace(library, pictures=pictures)


def _check_version_first(text: str) -> None:
    """A library of a later release may have anything in it: that is not damage."""
    try:
        version = tomllib.loads(text).get("schema_version")
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    if isinstance(version, int) and version > 1:
        raise TemplateError(f"it has a library of schema_version {version}: upgrade anonymotion")


def _check_png(name: str, data: bytes) -> tuple[int, int]:
    """(width, height) of a PNG that decodes to what it promises; its size is looked at before it is decoded."""
    from PIL import Image

    if len(data) > MOST_PICTURE_BYTES:
        raise TemplateError(f"picture {name!r} has {len(data) / 2**20:.0f} MB: at most {MOST_PICTURE_BYTES // 2**20}")
    if len(data) < _PNG_HEADER.size:
        raise TemplateError(f"picture {name!r} is no PNG: get the file again")
    signature, length, chunk, width, height, depth, colour, *_ = _PNG_HEADER.unpack_from(data)
    if (signature, length, chunk, depth, colour) != (b"\x89PNG\r\n\x1a\n", 13, b"IHDR", 8, 2):
        raise TemplateError(f"picture {name!r} is no PNG with 8 bits of red, green and blue: get the file again")
    short, long = sorted((width, height))
    if not (SMALLEST_SIDE <= short <= LARGEST_SHORT_SIDE and long <= LARGEST_RATIO * short):
        raise TemplateError(
            f"picture {name!r} has {width}x{height} pixels: expected a shorter side of {SMALLEST_SIDE} to "
            f"{LARGEST_SHORT_SIDE}, and at most {LARGEST_RATIO:g} times that for the longer one"
        )
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            picture.load()
            decoded = picture.size
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise TemplateError(f"picture {name!r} cannot be decoded ({error}): get the file again") from error
    if decoded != (width, height):
        raise TemplateError(f"picture {name!r} is not of the size that it says: get the file again")
    return width, height


def _check_descriptors(
    metadata: dict[str, str],
    tensors: dict[str, np.ndarray],
    library: TemplateLibrary,
    network: Callable[[], Backbone],
) -> int:
    """Compare the file's descriptors with those of its crops; the number compared, 0 for other weights."""
    specs = _specs(metadata)
    if {f"descriptors/{n}" for n in range(len(specs))} != {name for name in tensors if name.startswith("desc")}:
        raise TemplateError("its list of descriptors is not what it holds: get it again")
    for n in range(len(specs)):
        given = tensors[f"descriptors/{n}"]
        if len(given) != len(library.templates) or not np.isfinite(given).all():
            raise TemplateError("its descriptors are not finite, or not one per template: get it again")
    ours = strict_specs(t.attribute for t in library.templates)
    shared = {spec: tensors[f"descriptors/{n}"] for n, spec in enumerate(specs) if spec in ours}
    if not shared:
        return 0
    backbone = network()
    if metadata.get("backbone_fingerprint") != backbone.fingerprint:
        return 0
    vectors = compute_vectors(library, backbone, list(shared))
    for spec, given in shared.items():
        made = vectors[spec]["templates"].float()
        if given.shape != tuple(made.shape):
            raise TemplateError(f"its descriptors have {given.shape[1]} numbers, expected {made.shape[1]}")
        cosine = torch.cosine_similarity(torch.from_numpy(given.copy()), made, dim=1)
        if not bool((cosine >= LEAST_COSINE).all()):
            raise TemplateError(
                f"a descriptor is not that of its crop (cosine {float(cosine.min()):.2f}): the file was changed; "
                "get it again"
            )
    return sum(len(given) for given in shared.values())


def _specs(metadata: dict[str, str]) -> list[FeatureSpec]:
    try:
        entries: Any = json.loads(metadata.get("specs", ""))
        return [FeatureSpec(**entry) for entry in entries]
    except (ValueError, TypeError, RecursionError, AnonymotionError) as error:
        raise TemplateError(f"it says badly what its descriptors are ({error}): get it again") from error
