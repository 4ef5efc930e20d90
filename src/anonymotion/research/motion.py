"""Does the motion survive?  The endpoint error of the flow of a hidden clip, inside and outside the mask (Figure 6).

Clean and hidden clip are given to the same estimator; the error is the mean over pixels and frames of the length of the
difference of the two flows, in pixels, before encoding and after H.264.  Inside is where the look replaces a pixel
altogether (alpha is 1), outside where it leaves it alone (alpha is 0); the same pixels for all methods.

Not here: pictures of it (pictures), what hides (variants), encoders (video).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anonymotion import video
from anonymotion.errors import DatasetError, SettingsError
from anonymotion.flow import FlowEstimator
from anonymotion.flow.fields import check_flow
from anonymotion.research.clips import frames_of
from anonymotion.research.looks import look_at
from anonymotion.research.metrics import bootstrap_mean
from anonymotion.research.obfuscate import RATE
from anonymotion.research.tables import Cell, Heading, Row, Table
from anonymotion.research.variants import RECIPES, Variant, make_variants
from anonymotion.video.encoders import FORMATS

SOURCE = "source"
STILL = "no motion at all"
HIDING = ("strict", "first-frame", "iid")
COMPARED = ("person-mean", "black", "pixelate-4", "pixelate-16", "blur-weak", "blur-strong")
H264 = ".mp4"
QUALITIES = (FORMATS[H264].quality, 23, 33)  # the default of `hide`, that of x264, and a poor one
MOST_READ = 600


@dataclass(frozen=True)
class Measured:
    """One method, flow and encoding of one clip.

    quality: of H.264 (constant rate factor), None before encoding.  inside, outside: mean endpoint error in pixels,
    None where there is no such pixel.  bits: per pixel and frame, 0 before encoding.
    """

    clip: str
    method: str
    flow: str
    quality: int | None
    inside: float | None
    outside: float | None
    bits: float = 0.0


@dataclass(frozen=True)
class Hidden:
    """A clip, and what methods made of it.

    frames: (T, H, W, 3) uint8.  alpha: (T, H, W) float32 in [0, 1], of the first method that has a mask.
    shown: method -> (T, H, W, 3) uint8; the clip itself is among them, as `source`.
    """

    name: str
    frames: Tensor
    alpha: Tensor
    shown: Mapping[str, Tensor]


def middle_frames(path: Path, count: int) -> np.ndarray:
    """`count` frames from the middle of a clip (of its first 600), fewer if it is shorter: (T, H, W, 3) uint8 RGB.

    Raises DatasetError if the path is not there or holds fewer than 2 frames, InputError if it cannot be read.
    """
    frames = list(islice(frames_of(path), MOST_READ))
    if len(frames) < 2:
        raise DatasetError(f"{path} holds {len(frames)} frames: at least 2 are needed to see motion")
    start = max(0, (len(frames) - count) // 2)
    return np.stack(frames[start : start + count])


def hide_clips(
    clips: Sequence[Path],
    methods: Sequence[str],
    *,
    frames: int,
    attributes: str,
    device: str = "auto",
    settings: Mapping[str, object] | None = None,
) -> Iterator[Hidden]:
    """Every clip as each of `methods` shows it; matching and flow are shared by all.

    methods: names of `variants.RECIPES`; the first of those that put something into a mask says where that is.
    Raises SettingsError if none of them has a mask.
    """
    known = [name for name in methods if name in RECIPES]
    if len(known) < len(methods):
        unknown = next(name for name in methods if name not in RECIPES)
        raise SettingsError(f"method {unknown!r} is not known: use some of {', '.join(RECIPES)}")
    # those that need no attributes cover the whole frame, as in the paper
    whole = [name for name in known if not RECIPES[name].attributes]
    masked = [name for name in known if RECIPES[name].attributes]
    chosen = make_variants(masked, "folder", attributes, device=device, settings=settings)
    with_mask = [variant for variant in chosen if variant.look is not None]
    if not with_mask:
        raise SettingsError(f"none of {', '.join(methods)} has a mask: name {HIDING[0]} too")
    chosen += make_variants(whole, "folder", None, device=device, settings=settings)
    chosen.sort(key=lambda variant: methods.index(variant.name))
    for path in clips:
        yield _hidden(path, middle_frames(path, frames), chosen, with_mask[0])


def _hidden(path: Path, frames: np.ndarray, variants: Sequence[Variant], masked: Variant) -> Hidden:
    looks = {look.digest: look for variant in variants for look in variant.looks}
    painters = {variant.name: variant.painter(path) for variant in variants}
    shown: dict[str, list[Tensor]] = {name: [] for name in painters}
    alphas = []
    assert masked.look is not None  # noqa: S101 - for mypy: the caller chose it so
    for seen in look_at(list(looks.values()), frames):
        alphas.append(seen.alphas[masked.look.digest])
        for name, paint in painters.items():
            shown[name].append(paint(seen))
    source = torch.from_numpy(frames)
    made = {name: torch.cat(parts) for name, parts in shown.items()}
    return Hidden(f"{path.parent.name}/{path.name}", source, torch.cat(alphas), {SOURCE: source, **made})


def flows_between(estimator: FlowEstimator, frames: Tensor) -> Tensor:
    """Flow of each frame but the first, (T, H, W, 3) uint8, to the one before it: (T - 1, 2, H, W) float32 pixels."""
    size_hw = (frames.shape[1], frames.shape[2])
    return torch.stack(
        [check_flow(estimator.between(now, before), size_hw, estimator.name) for before, now in pairwise(frames)]
    )


def endpoint_error(flow: Tensor, clean: Tensor, where: Tensor) -> float | None:
    """Mean length of flow - clean, (T, 2, H, W), over the pixels of `where`, (T, H, W) bool; None without any."""
    if flow.shape != clean.shape or where.shape != (len(flow), *flow.shape[2:]):
        raise ValueError(f"flows {tuple(flow.shape)}, {tuple(clean.shape)} and pixels {tuple(where.shape)} do not fit")
    lengths = (flow - clean).square().sum(1).sqrt()[where]
    return float(lengths.double().mean()) if len(lengths) else None


def encoded(frames: Tensor, quality: int) -> tuple[Tensor, float]:
    """(T, H, W, 3) uint8 after H.264 as `hide` writes it and decoding, and its bits per pixel and frame."""
    count, height, width = frames.shape[:3]
    info = video.VideoInfo(width, height, RATE, 1 / RATE, pixel_format="yuv420p")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{H264}"
        with video.open_sink(path, info, source=None, quality=quality) as sink:
            for number, image in enumerate(frames.numpy()):
                sink.write(image, video.Frame(number, image, number, info.time_base, 1))
            sink.commit()
        bits = path.stat().st_size * 8 / (count * height * width)
        with video.open_source(path) as source:
            back = np.stack([frame.image for frame in source])
    return torch.from_numpy(back), bits


def measure(
    hidden: Iterator[Hidden] | Sequence[Hidden],
    estimators: Mapping[str, FlowEstimator],
    qualities: Sequence[int] = QUALITIES,
    clip_done: Callable[[str], None] | None = None,
) -> list[Measured]:
    """All methods, flows and encodings of all clips; and, once per clip, of a flow that is zero everywhere."""
    found = []
    for clip in hidden:
        inside, outside = clip.alpha[1:] == 1, clip.alpha[1:] == 0
        clean = {name: flows_between(one, clip.frames) for name, one in estimators.items()}
        for name, flow in clean.items():
            still = torch.zeros_like(flow)
            ends = (endpoint_error(still, flow, inside), endpoint_error(still, flow, outside))
            found += [Measured(clip.name, STILL, name, quality, *ends) for quality in (None, *qualities)]
        for method, frames in clip.shown.items():
            for quality in (None, *qualities):
                shown, bits = (frames, 0.0) if quality is None else encoded(frames, quality)
                for name, one in estimators.items():
                    flow = flows_between(one, shown)
                    ends = (endpoint_error(flow, clean[name], inside), endpoint_error(flow, clean[name], outside))
                    found.append(Measured(clip.name, method, name, quality, *ends, bits))
        if clip_done is not None:
            clip_done(clip.name)
    return found


def encoding_name(quality: int | None) -> str:
    """As headings call it."""
    return "before encoding" if quality is None else f"H.264 crf {quality}"


def cell_of(found: Sequence[Measured], method: str, flow: str, quality: int | None, where: str) -> Cell:
    """Mean over the clips with its interval; empty where no clip has such a pixel.  where: inside | outside | bits."""
    values = [
        value
        for one in found
        if (one.method, one.flow, one.quality) == (method, flow, quality) and (value := getattr(one, where)) is not None
    ]
    if not values:
        return Cell()
    interval = bootstrap_mean(np.array(values))
    return Cell(interval.value, interval.low, interval.high)


def motion_tables(found: Sequence[Measured]) -> list[Table]:
    """Endpoint errors inside and outside the mask, inside as a share of that of iid noise, and bits per pixel."""
    methods = list(dict.fromkeys(one.method for one in found))
    flows = list(dict.fromkeys(one.flow for one in found))
    qualities = list(dict.fromkeys(one.quality for one in found))
    places = [(flow, quality) for flow in flows for quality in qualities]
    headings = tuple(Heading(f"{flow}, {encoding_name(quality)}", "lower", 2, 1.0) for flow, quality in places)
    clips = list(dict.fromkeys(one.clip for one in found))
    bare = [clip for clip in clips if all(one.inside is None for one in found if one.clip == clip)]
    notes = [f"mean over {len(clips)} clips; brackets: 95 % bootstrap over clips"]
    notes += [f"nothing was masked in {', '.join(bare)}: not in the means inside"] if bare else []

    def table(title: str, where: str, wanted: Sequence[str]) -> Table:
        rows = [
            Row(m, tuple(cell_of(found, m, flow, quality, where) for flow, quality in places), m not in (SOURCE, STILL))
            for m in wanted
        ]
        return Table(title, headings, tuple(rows), tuple(notes))

    tables = [
        table("Endpoint error inside the mask, pixels", "inside", methods),
        table("Endpoint error outside the mask, pixels", "outside", methods),
    ]
    if "iid" in methods:
        tables.append(_against_iid(found, places, [m for m in methods if m != STILL]))
    sizes = tuple(Heading(encoding_name(quality), "lower", 2, 1.0) for quality in qualities if quality is not None)
    rows = [
        Row(m, tuple(cell_of(found, m, flows[0], quality, "bits") for quality in qualities if quality is not None))
        for m in methods
        if m != STILL
    ]
    if sizes:
        tables.append(Table("Bits per pixel", sizes, tuple(rows), (notes[0],)))
    return tables


def beside(tables: Sequence[Table]) -> Table:
    """One table with the columns of all, each named after its own table; cells that a table does not have are empty."""
    headings = [replace(h, text=f"{t.title}: {h.text}") for t in tables for h in t.headings]
    labels = list(dict.fromkeys(row.label for table in tables for row in table.rows))
    rows = []
    for label in labels:
        cells: list[Cell] = []
        for table in tables:
            there = [row.cells for row in table.rows if row.label == label]
            cells += there[0] if there else [Cell()] * len(table.headings)
        rows.append(Row(label, tuple(cells)))
    return Table(tables[0].title, tuple(headings), tuple(rows), tables[0].notes)


def _against_iid(found: Sequence[Measured], places: Sequence[tuple[str, int | None]], methods: Sequence[str]) -> Table:
    """The ratio of the means inside the mask; its interval draws clips for both together."""
    rows = []
    for method in methods:
        cells = []
        for flow, quality in places:
            pairs = _pairs(found, method, "iid", flow, quality)
            cells.append(_ratio(pairs) if len(pairs) else Cell())
        rows.append(Row(method, tuple(cells), method not in (SOURCE, "iid")))
    headings = tuple(Heading(f"{flow}, {encoding_name(quality)}", "lower", 2, 1.0) for flow, quality in places)
    notes = ("1 is as bad as new noise in each frame; expected of strict: at most 0.5",)
    return Table("Endpoint error inside the mask, as a share of that of iid noise", headings, tuple(rows), notes)


def _pairs(found: Sequence[Measured], one: str, other: str, flow: str, quality: int | None) -> np.ndarray:
    """(N, 2) float64: the errors inside the mask of two methods, of the clips that have both."""
    by_method = {
        name: {m.clip: m.inside for m in found if (m.method, m.flow, m.quality) == (name, flow, quality)}
        for name in (one, other)
    }
    both = [(by_method[one][clip], by_method[other][clip]) for clip in by_method[one] if clip in by_method[other]]
    return np.array([pair for pair in both if None not in pair], np.float64).reshape(-1, 2)


def _ratio(pairs: np.ndarray) -> Cell:
    random = np.random.default_rng(0)
    draws = pairs[random.integers(len(pairs), size=(2000, len(pairs)))].mean(axis=1)
    low, high = np.quantile(draws[:, 0] / draws[:, 1], [0.025, 0.975])
    return Cell(float(pairs[:, 0].mean() / pairs[:, 1].mean()), float(low), float(high))
