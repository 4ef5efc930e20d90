"""From files to a scene: the original, the hidden video, and the masks of the run that hid it.

Only a stretch of frames around the one that is hidden most is kept, cut to the mask, in memory.

Not here: the attacks (recovery), hiding (run).
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from anonymotion import video
from anonymotion.attacks.chance import Concealment, Unrelated
from anonymotion.attacks.evidence import Box, Scene, View, core_of, place_crop
from anonymotion.attacks.tracks import chain
from anonymotion.chunks import HiddenChunk
from anonymotion.errors import InputError
from anonymotion.flow import FlowEstimator, load_flow
from anonymotion.noise import NoiseField, make_noise
from anonymotion.presets import Settings, settings_for
from anonymotion.video.encoders import FORMATS

Plane = NDArray[np.float32]
GUESSED_SEED = 0


class Masks(Protocol):
    """The weights with which the frames of a clip were hidden."""

    def __len__(self) -> int: ...

    def plane(self, index: int) -> Plane:
        """(H, W) float32 in [0, 1], of frame `index`."""
        ...


class KeptMasks:
    """The masks of a run, packed in memory (a few kB each), and nothing else of it: for `hide --self-test`."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._size_hw = (0, 0)

    def write(self, chunk: HiddenChunk) -> None:
        """Take the masks of a chunk."""
        for alpha in chunk.alpha.cpu().numpy():
            self._size_hw = alpha.shape
            # 8 bits are enough for the soft rim; 255 is 1 and nothing else
            self._packed.append(zlib.compress(np.floor(alpha * 255).astype(np.uint8).tobytes(), 1))

    def __len__(self) -> int:
        return len(self._packed)

    def plane(self, index: int) -> Plane:
        """See Masks."""
        flat = np.frombuffer(zlib.decompress(self._packed[index]), np.uint8)
        return (flat.reshape(self._size_hw) / np.float32(255)).astype(np.float32)


class MaskFolder:
    """What `hide --export-masks` wrote: `%06d.png` from 0."""

    def __init__(self, folder: Path) -> None:
        self._files = _numbered(folder, "png")

    def __len__(self) -> int:
        return len(self._files)

    def plane(self, index: int) -> Plane:
        """See Masks.  Raises InputError for what is no picture."""
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(self._files[index]) as picture:
                return np.asarray(picture.convert("L"), np.float32) / np.float32(255)
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(
                f"mask {self._files[index].name} cannot be read ({error}): export the masks again"
            ) from error


class DumpFolder:
    """What `hide --dump` wrote; `settings` are those of that run."""

    def __init__(self, folder: Path) -> None:
        self._files = _numbered(folder, "npz")
        try:
            content = json.loads((folder / "attributes.json").read_text())
            found = dict(content["settings"])
            self.settings = settings_for(found.pop("preset"), **found)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"dump {folder.name} has no attributes.json that can be read ({error}): hide with --dump again"
            ) from error

    def __len__(self) -> int:
        return len(self._files)

    def plane(self, index: int) -> Plane:
        """See Masks.  Raises InputError for what is no part of a dump."""
        try:
            with np.load(self._files[index], allow_pickle=False) as arrays:
                return np.asarray(arrays["mask"], np.float32)
        except (OSError, ValueError, KeyError, zlib.error) as error:
            raise InputError(f"{self._files[index].name} of the dump cannot be read ({error}): dump again") from error


def _numbered(folder: Path, suffix: str) -> list[Path]:
    """The files `%06d.suffix` of a folder, which have to count from 0 without a gap."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give the one that hide wrote with --export-masks or --dump")
    files = sorted((file for file in folder.iterdir() if re.fullmatch(rf"\d+\.{suffix}", file.name)), key=_number)
    if not files or [_number(file) for file in files] != list(range(len(files))):
        raise InputError(
            f"{folder.name} holds {len(files)} files of the form 000000.{suffix}, not one per frame from 0 on: give "
            "the folder that hide wrote with --export-masks or --dump"
        )
    return files


def _number(file: Path) -> int:
    return int(file.stem)


@dataclass(frozen=True)
class Stretch:
    """Frames start to stop (excluded), the reference among them, and where they are cut."""

    start: int
    stop: int
    reference: int
    box: Box


def choose_stretch(masks: Masks, frames: int) -> Stretch:
    """At most `frames` frames around the one that is hidden most.  Raises SettingsError if none is."""
    hidden = [_hidden_area(masks.plane(index)) for index in range(len(masks))]
    reference = int(np.argmax(hidden))
    start = max(0, min(reference - frames // 2, len(masks) - frames))
    stop = min(len(masks), start + frames)
    anywhere = np.zeros_like(masks.plane(reference), bool)
    for index in range(start, stop):
        anywhere |= masks.plane(index) > 0
    return Stretch(start, stop, reference, place_crop(masks.plane(reference), anywhere))


def _hidden_area(plane: Plane) -> float:
    whole = float((plane >= 1).sum())
    return whole if whole else float(plane.mean())  # a blend has no whole pixel: its means are below one


def read_view(
    original: Path,
    hidden: Path,
    masks: Masks,
    settings: Settings,
    *,
    seed: int | None = None,
    frames: int = 90,
    quality: int | None = None,
    frame_rate: Any = 25,
    flow_weights: Path | None = None,
) -> tuple[View, Concealment, Stretch]:
    """Read both videos; what an adversary who knows mask and flow sees, and how it was made.

    settings: those that `hidden` was made with.  seed: of its noise if the adversary knows it; otherwise the guess is
    GUESSED_SEED.  frames: length of the stretch.  quality: of the encoder, None for its default.
    Raises InputError if the three do not belong together, SettingsError if nothing is hidden.
    """
    stretch = choose_stretch(masks, frames)
    device = torch.device("cpu")
    flow = load_flow(
        settings.flow, device, flow_weights, iterations=settings.flow_iterations, scale=settings.flow_scale
    )
    collected = _Collected(settings, flow, stretch, GUESSED_SEED if seed is None else seed)
    with (
        video.open_source(original, frame_rate=frame_rate) as source,
        video.open_source(hidden, frame_rate=frame_rate) as seen,
    ):
        sizes = {(part.info.height, part.info.width) for part in (source, seen)} | {masks.plane(0).shape}
        if len(sizes) != 1:
            raise InputError(
                f"original, hidden video and masks differ in size ({sorted(sizes)}): they must belong together"
            )
        count = _together(iter(source), iter(seen), collected.take)
        rate = source.info.frame_rate or Fraction(25)
    if count != len(masks):
        raise InputError(f"there are {count} frames and {len(masks)} masks: give those of the same run")
    scene = collected.scene(masks)
    suffix = hidden.suffix.lower() if hidden.suffix.lower() in FORMATS else None
    concealment = Concealment(settings, rate, suffix, quality, seed_is_known=seed is not None)
    view = concealment.view(scene, np.stack(collected.hidden), collected.noise_at_reference, Unrelated(seed=1))
    return view, concealment, stretch


def _together(source: Iterator[video.Frame], seen: Iterator[video.Frame], take: Callable[[int, Any, Any], None]) -> int:
    count = 0
    for count, frame in enumerate(source, 1):
        other = next(seen, None)
        if other is None:
            raise InputError(
                f"the hidden video has {count - 1} frames and the original more: they must belong together"
            )
        take(count - 1, frame.image, other.image)
    if next(seen, None) is not None:
        raise InputError(f"the original has {count} frames and the hidden video more: they must belong together")
    return count


class _Collected:
    """The stretch of both videos, with flow in both directions and the noise that a seed gives."""

    def __init__(self, settings: Settings, flow: FlowEstimator, stretch: Stretch, seed: int) -> None:
        self._settings, self._flow, self._stretch, self._seed = settings, flow, stretch, seed
        self._previous: torch.Tensor | None = None
        self._field: NoiseField | None = None
        self._frame_hw = (0, 0)
        self._original: list[NDArray[Any]] = []
        self._backward: list[NDArray[Any]] = []
        self._forward: list[NDArray[Any]] = []
        self.hidden: list[NDArray[Any]] = []
        self.noise_at_reference: NDArray[np.float32] | None = None

    def take(self, index: int, original: NDArray[np.uint8], hidden: NDArray[np.uint8]) -> None:
        """The next frame of both."""
        stretch, box = self._stretch, self._stretch.box
        if index >= stretch.stop:
            return
        image = torch.from_numpy(original)
        self._frame_hw = (original.shape[0], original.shape[1])
        uses_noise = self._settings.method == "noise"
        inside = index >= stretch.start
        backward = torch.zeros(2, *self._frame_hw)
        # the noise of a frame depends on the flow of all frames before it
        if self._previous is not None and (inside or (uses_noise and index <= stretch.reference)):
            backward = self._flow.between(image, self._previous)
        if uses_noise and index <= stretch.reference:
            self._move_noise(index, backward)
        if inside:
            if self._original and self._previous is not None:
                forward = self._flow.between(self._previous, image)
                self._forward.append(box.cut(forward.permute(1, 2, 0).numpy()))
            self._original.append(box.cut(original))
            self.hidden.append(box.cut(hidden))
            self._backward.append(box.cut(backward.permute(1, 2, 0).numpy()))
        self._previous = image

    def _move_noise(self, index: int, backward: torch.Tensor) -> None:
        if self._field is None:
            self._field = make_noise(
                self._settings.noise,
                self._frame_hw,
                mean=self._settings.noise_mean,
                std=self._settings.noise_std,
                device=torch.device("cpu"),
                seed=self._seed,
                grain=self._settings.grain_px(self._frame_hw),
            )
        noise = self._field.next(backward)
        if index == self._stretch.reference:
            self.noise_at_reference = np.asarray(self._stretch.box.cut(noise.numpy()), np.float32)

    def scene(self, masks: Masks) -> Scene:
        """What was collected, with its masks."""
        stretch = self._stretch
        alpha = np.stack([stretch.box.cut(masks.plane(index)) for index in range(stretch.start, stretch.stop)])
        backward = np.stack(self._backward)
        forward = np.stack([*self._forward, np.zeros_like(self._backward[0])])
        reference = stretch.reference - stretch.start
        return Scene(
            np.stack(self._original),
            alpha.astype(np.float32),
            np.ascontiguousarray(np.moveaxis(backward, 3, 1)),
            chain(backward, forward, reference),
            self._frame_hw,
            stretch.box,
            core_of(alpha[reference]),
        )
