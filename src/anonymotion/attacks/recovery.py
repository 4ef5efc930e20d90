"""The attacks: from what an adversary sees to the best picture of what is under the mask.

Each takes a View and gives a grey (h, w) estimate of the original's reference frame, or None where it means nothing
(no noise to invert, nothing around to inpaint from).  `ATTACKS` lists them in the order of the report.

Not here: filters and deconvolution (restoration), the trained network (inverter), scores.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from anonymotion.attacks import restoration
from anonymotion.attacks.evidence import View, grey
from anonymotion.attacks.scores import Grey

Attack = Callable[[View], Grey | None]

LEAST_REMAINDER = 1 / 32
"""Of 1 - alpha: below it nothing is left to be scaled up, and only the noise is subtracted."""

MEAN_BRIGHTNESS = 115.0  # what an adversary expects of footage that is not known


def as_it_is(view: View) -> Grey:
    """The hidden frame itself."""
    return view.frame


def invert_known_noise(view: View) -> Grey | None:
    """Eq. 5 solved for I with noise that the adversary knows (or has guessed): I = (O - S N) / (1 - S)."""
    return None if view.noise is None else _inverted(view, grey(view.noise))


def invert_shared_noise(view: View) -> Grey | None:
    """As `invert_known_noise`, with noise estimated from other clips that were hidden alike: it is what they share."""
    if view.others is None:
        return None
    alpha = view.scene.alpha[view.scene.reference]
    shared = (view.others.mean(0) - (1 - alpha) * MEAN_BRIGHTNESS) / np.maximum(alpha, LEAST_REMAINDER)
    return _inverted(view, shared)


def _inverted(view: View, noise: Grey) -> Grey:
    alpha = view.scene.alpha[view.scene.reference]
    left = 1 - alpha
    return np.where(
        left >= LEAST_REMAINDER,
        (view.frame - alpha * noise) / np.maximum(left, LEAST_REMAINDER),
        view.frame - noise + MEAN_BRIGHTNESS,
    ).astype(np.float32)


def average(view: View, frames: int | None = None) -> Grey:
    """The mean of the `frames` nearest frames (all if None) along the true motion, where they are hidden too."""
    key = f"average-{frames}"
    if key not in view.kept:
        count, reference = len(view.frames), view.scene.reference
        nearest = sorted(range(count), key=lambda t: (abs(t - reference), t))[: frames or count]
        weight = view.scene.hidden_along_tracks[nearest]
        total = (view.aligned[nearest] * weight).sum(0)
        view.kept[key] = np.where(weight.any(0), total / np.maximum(weight.sum(0), 1), view.frame).astype(np.float32)
    return view.kept[key]


def temporal_mean(view: View) -> Grey:
    """The mean of all frames at the same pixel, where it is hidden: defeats noise that does not move."""
    weight = _hidden_there(view)
    mean = (view.frames * weight).sum(0) / np.maximum(weight.sum(0), 1)
    return np.where(weight.any(0), mean, view.frame).astype(np.float32)


def temporal_median(view: View) -> Grey:
    """The (lower) median of all frames at the same pixel, where it is hidden."""
    weight = _hidden_there(view)
    ordered = np.sort(np.where(weight, view.frames, np.float32(np.inf)), axis=0)
    middle = np.maximum(weight.sum(0) - 1, 0) // 2
    taken = np.take_along_axis(ordered, middle[None], axis=0)[0]
    return np.where(np.isfinite(taken), taken, view.frame).astype(np.float32)


def _hidden_there(view: View) -> NDArray[np.bool_]:
    alpha = view.scene.alpha
    return np.asarray(alpha >= 0.5 * float(alpha[view.scene.reference][view.scene.core].min()))


def denoise_frame(view: View, how: Callable[[Grey], Grey]) -> Grey:
    """A blind denoiser on the hidden frame."""
    return how(view.frame)


def denoise_average(view: View, how: Callable[[Grey], Grey]) -> Grey:
    """A blind denoiser on the mean along the true motion."""
    return how(average(view))


def inpaint_from_rim(view: View) -> Grey | None:
    """Fill the mask from its soft rim, with the contrast that the blend took away restored."""
    alpha = view.scene.alpha[view.scene.reference]
    return restoration.inpaint(restored_rim(view), alpha >= _opaque_from(view))


def inpaint_blacked_out(view: View) -> Grey | None:
    """Fill everything that is hidden at all from what is not: what anybody can imagine into a black hole."""
    alpha = view.scene.alpha[view.scene.reference]
    return restoration.inpaint(np.where(alpha > 0, 0, view.frame).astype(np.float32), alpha > 0)


def _opaque_from(view: View) -> float:
    # a blend is nowhere opaque: there what is scored is filled from the rest
    return min(1.0, float(view.scene.alpha[view.scene.reference][view.scene.core].min()))


def restored_rim(view: View) -> Grey:
    """The hidden frame with the mean of noise taken off and the contrast restored where alpha is below 1."""
    alpha = view.scene.alpha[view.scene.reference]
    inside = alpha >= _opaque_from(view)
    mean = float(view.frame[inside].mean()) if inside.any() else MEAN_BRIGHTNESS
    left = 1 - alpha
    restored = (view.frame - alpha * mean) / np.maximum(left, LEAST_REMAINDER)
    return np.where(left >= LEAST_REMAINDER, np.clip(restored, 0, 255), view.frame).astype(np.float32)


def rim(view: View) -> Grey | None:
    """The silhouette's soft edge: what shines through where alpha is between 0 and 1, outside the mask."""
    alpha = view.scene.alpha[view.scene.reference]
    return restored_rim(view) if alpha.max() >= 1 and ((alpha > 0) & (alpha < 1)).sum() >= 64 else None


def dictionary(view: View, cell: float) -> Grey:
    """Details for each cell from the pictures of the library whose mosaic is most like this one."""
    origin = (view.scene.box.x0, view.scene.box.y0)
    return restoration.from_dictionary(view.frame, cell, origin)


def deconvolve(view: View, how: Callable[[Grey, Grey], Grey], kernel: int) -> Grey:
    """Undo the paper's Gaussian of that width, known to the adversary; what is around is blurred to match."""
    alpha = view.scene.alpha[view.scene.reference]
    point = restoration.gaussian(kernel, min(view.scene.frame_hw))
    around = restoration.blurred(view.frame, point)
    return how((alpha * view.frame + (1 - alpha) * around).astype(np.float32), point)


WINDOWS = (3, 10, 60)
RIM = "rim"
INPAINTING = "inpainting from the rim"
DECONVOLUTION_KERNELS = {"blur-weak": 13, "blur-strong": 21}
DICTIONARY_BLOCKS = {"pixelate-4": 4, "pixelate-16": 16}
PAPER_SHORT_SIDE = 224


def attacks_for(method: str, frame_hw: tuple[int, int], at_native: bool = False) -> dict[str, Attack]:
    """The attacks by name, tuned to the method that they attack: its kernel and its blocks are known.

    method: a name of `registry.METHODS`; for others than blur and pixelation the smaller kernel and block are tried.
    """
    kernel = DECONVOLUTION_KERNELS.get(method, 13)
    block = DICTIONARY_BLOCKS.get(method, 4)
    scale = 1.0 if at_native else min(frame_hw) / PAPER_SHORT_SIDE
    non_local, variation = restoration.non_local_means, restoration.total_variation
    wiener, lucy = restoration.wiener, restoration.richardson_lucy
    return {
        "none (as it is)": as_it_is,
        "known noise": invert_known_noise,
        "noise shared by clips": invert_shared_noise,
        **{f"average of {count}": partial(average, frames=count) for count in WINDOWS},
        "average of all": average,
        "temporal mean": temporal_mean,
        "temporal median": temporal_median,
        "non-local means": partial(denoise_frame, how=non_local),
        "total variation": partial(denoise_frame, how=variation),
        "average, non-local means": partial(denoise_average, how=non_local),
        "average, total variation": partial(denoise_average, how=variation),
        RIM: rim,
        INPAINTING: inpaint_from_rim,
        "dictionary": partial(dictionary, cell=max(2.0, block * scale)),
        "Wiener": partial(deconvolve, how=wiener, kernel=max(3, round(kernel * scale))),
        "Richardson-Lucy": partial(deconvolve, how=lucy, kernel=max(3, round(kernel * scale))),
    }
