"""Figures 4 and 6 of the paper, from clips or pictures: what is found of each attribute, and what is left of motion.

    fig4   saliency per attribute and combined; a row per clip (its middle frame) or picture
    fig6   one clip after each method: a frame, its flow in Middlebury's colours with arrows, and the part in the mask

Not here: the error of the flow over many clips (motion), how figures are written (drawing).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from anonymotion.backbone import Backbone
from anonymotion.errors import DatasetError
from anonymotion.flow import FlowEstimator
from anonymotion.matcher import Matcher
from anonymotion.overlays import flow_colours
from anonymotion.presets import Settings
from anonymotion.research.clips import frames_of
from anonymotion.research.drawing import MAP_COLOURS, Drawn, bars, new_figure, picture, styled
from anonymotion.research.motion import (
    MOST_READ,
    STILL,
    Hidden,
    Measured,
    beside,
    cell_of,
    encoding_name,
    endpoint_error,
    flows_between,
    motion_tables,
)
from anonymotion.research.tables import Cell, Heading, Row, Table
from anonymotion.templates import TemplateLibrary

PANEL_PIXELS = 150  # the longer side of a picture in a figure
ARROWS = 9  # along the shorter side


def middle_frame(path: Path) -> np.ndarray:
    """The middle frame of a clip (of its first 600 frames) or a picture: (H, W, 3) uint8 RGB.

    Raises DatasetError if it holds no frame or is not there, InputError if it cannot be read.
    """
    frames = list(islice(frames_of(path), MOST_READ))
    if not frames:
        raise DatasetError(f"{path} holds no frame: give another clip")
    return frames[len(frames) // 2]


def figure_4(
    images: Sequence[tuple[str, np.ndarray]],
    settings: Settings,
    network: Backbone,
    library: TemplateLibrary,
    combined: Sequence[str],
) -> Drawn:
    """Saliency of each attribute of a library, asked for by itself, and of those in `combined`, asked for together.

    images: name and (H, W, 3) uint8 RGB each.  The lines in the maps are the attribute's threshold.  Of those together
    the strongest is shown (what the union of their masks is made of), and their mean (eq. 1).
    """
    names = list(library.attributes)
    matchers = [
        Matcher(settings, library, asked, (), backbone=network, person_mask=None, device=network.device)
        for asked in (*((name,) for name in names), combined)
    ]
    titles = ["", *names, f"strongest of {len(combined)}", f"mean of {len(combined)}"]
    rows = []
    with styled():
        figure = new_figure(0.95 * len(titles), 0.95 * len(images) + 0.5)
        grid = figure.subplots(len(images), len(titles), squeeze=False)
        for line, (name, image) in enumerate(images):
            shown = _maps_of(image, matchers)
            picture(grid[line, 0], small(image), name[:18])
            for axes, plane, title in zip(grid[line, 1:], map(small, shown), titles[1:], strict=True):
                mapped = axes.imshow(plane, cmap=MAP_COLOURS, vmin=0, vmax=1)
                axes.set_axis_off()
                if line == 0:
                    axes.set_title(title, fontsize=7, pad=2)
                if title in names:
                    limit = settings.threshold[title]
                    if (plane >= limit).any() and not (plane >= limit).all():
                        axes.contour(plane, levels=[limit], colors="white", linewidths=0.7)
            rows.append(Row(name, tuple(Cell(float(plane.max())) for plane in shown), ranked=False))
        figure.colorbar(mapped, ax=grid.ravel().tolist(), shrink=0.9, aspect=14, pad=0.005)
    headings = tuple(Heading(title, "", 2, 1.0) for title in titles[1:])
    return Drawn("fig4", figure, Table("Highest saliency in each picture", headings, tuple(rows)))


def _maps_of(image: np.ndarray, matchers: Sequence[Matcher]) -> list[np.ndarray]:
    """(H, W) float32 in [0, 1] of what each finds alone, and the maximum and the mean of what the last one finds."""
    batch = torch.from_numpy(np.ascontiguousarray(image))[None]
    planes = [matcher.find(batch.to(matcher.thresholds.device)).saliency[0].cpu().numpy() for matcher in matchers]
    return [*(plane[0] for plane in planes[:-1]), planes[-1].max(axis=0), planes[-1].mean(axis=0)]


def small(image: np.ndarray) -> np.ndarray:
    """An image or a map, (H, W[, 3]), not longer than what a panel of a figure shows."""
    import cv2

    scale = PANEL_PIXELS / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def figure_6(clip: Hidden, estimator: FlowEstimator) -> Drawn:
    """What each method leaves of the flow of one clip, in the frame in which most moves inside the mask."""
    clean = flows_between(estimator, clip.frames)
    inside = clip.alpha[1:] == 1
    if not inside.any():
        raise DatasetError(f"nothing is masked in {clip.name}: fig6 needs another clip, or other attributes")
    moves = torch.where(inside, clean.square().sum(1).sqrt(), 0).sum(dim=(1, 2))
    number = int(moves.argmax())
    longest = max(1.0, float(clean[number].square().sum(0).sqrt().quantile(0.995)))
    rows, columns = _box(inside[number])
    titles = ("frame", "flow", "in the mask")
    with styled():
        figure = new_figure(1.35 * len(clip.shown), 3.9)
        grid = figure.subplots(3, len(clip.shown), squeeze=False)
        for place, (method, frames) in enumerate(clip.shown.items()):
            flow = flows_between(estimator, frames[number : number + 2])[0]
            error = endpoint_error(flow[None], clean[number : number + 1], inside[number : number + 1])
            picture(grid[0, place], small(frames[number + 1].numpy()), method)
            _draw_flow(grid[1, place], flow, longest)
            _draw_flow(grid[2, place], flow[:, rows, columns], longest)
            grid[2, place].set_title(f"error {error:.2f} px", fontsize=7, pad=2)
        for line, title in enumerate(titles):
            grid[line, 0].text(
                -0.08, 0.5, title, rotation=90, va="center", ha="right", fontsize=7, transform=grid[line, 0].transAxes
            )
        figure.suptitle(f"{clip.name}: {estimator.name}, full colour at {longest:.1f} px", fontsize=8)
    return Drawn("fig6", figure)


def _box(mask: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around (H, W) bool that has any."""
    places = mask.nonzero()
    (top, left), (bottom, right) = places.amin(0).tolist(), places.amax(0).tolist()
    return slice(top, bottom + 1), slice(left, right + 1)


def _draw_flow(axes: object, flow: Tensor, longest: float) -> None:
    """Flow, (2, H, W) pixels, in colours, and as arrows that show in grey what colours do not."""
    picture(axes, flow_colours(flow.numpy(), longest))  # type: ignore[arg-type]
    height, width = flow.shape[1:]
    step = max(2, min(height, width) // ARROWS)
    y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    u, v = flow[:, y, x].numpy()
    there = np.hypot(u, v) > 0.1 * longest
    options = {"angles": "xy", "scale_units": "xy", "scale": longest / step, "width": 0.008, "headwidth": 4}
    axes.quiver(x[there], y[there], u[there], v[there], color="black", **options)  # type: ignore[attr-defined]


def figure_6_error(found: Sequence[Measured]) -> Drawn:
    """The mean endpoint error inside the mask over many clips: a panel per flow, a bar per encoding."""
    flows = list(dict.fromkeys(one.flow for one in found))
    methods = list(dict.fromkeys(one.method for one in found if one.method != STILL))
    qualities = list(dict.fromkeys(one.quality for one in found))
    with styled():
        figure = new_figure(0.75 * len(methods) + 1.2, 2.6 * len(flows) + 0.4)
        grid = figure.subplots(len(flows), 1, squeeze=False)[:, 0]
        for axes, flow in zip(grid, flows, strict=True):
            series = {
                encoding_name(quality): [cell_of(found, method, flow, quality, "inside") for method in methods]
                for quality in qualities
            }
            bars(axes, methods, series, factor=1.0)
            still = cell_of(found, STILL, flow, None, "inside").value
            if still is not None:
                axes.axhline(still, color="black", linestyle=":", linewidth=1.2, label=STILL)
            axes.set_ylabel("endpoint error, px")
            axes.set_title(f"inside the mask, {flow}", fontsize=9)
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=7)
    return Drawn("fig6_error", figure, beside(motion_tables(found)))
