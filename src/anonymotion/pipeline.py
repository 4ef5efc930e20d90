"""The paper's figure as code: `Hider._find`, then `Hider._cover`, read from left to right as the picture does.

    frame ──► backbone ──► patch keys ──┐
                                        ├─► saliency ──► mask ──► (continuity ±n frames) ──► compositor ──► hidden frame
    templates (picture + point + label)─┘                                  ▲                     ▲
    frame, previous ──► flow ──────────────────────────────────────────────┴──► moved noise ─────┘

A comparison method (`methods`) puts another picture in the place of the noise; named without attributes it covers
the whole frame, and then neither backbone nor flow is there.

The unit is a chunk: (T, H, W, 3) uint8 on one device, and the state carried from the chunk before.  Continuity holds
the last n frames back, so the chunks that come out of it are not those that went in.

Not here: files (run.py), what a stage does (its module), printing (cli).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from anonymotion import masks
from anonymotion.backbone import Backbone
from anonymotion.compositor import composite
from anonymotion.continuity import Continuity, Found, dilate_with_motion
from anonymotion.device import choose_device, is_out_of_memory
from anonymotion.errors import DeviceError, SettingsError, WeightsError
from anonymotion.flow import FlowEstimator, flow_to_previous, load_flow
from anonymotion.methods import load_method, load_person_mask
from anonymotion.noise import NoiseField, make_noise
from anonymotion.presets import Settings, settings_for
from anonymotion.registry import FeatureSpec
from anonymotion.results import Coverage, Stopwatch
from anonymotion.saliency import aggregate, saliency_planes
from anonymotion.template_bank import TemplateBank, build_bank
from anonymotion.templates import TemplateLibrary

FrameLike = TypeVar("FrameLike", bound=np.ndarray | Tensor)

# Full-size planes are kept for each frame of a chunk: this bounds them to a few hundred MB.
CHUNK_PIXELS = 4_000_000
MAX_CHUNK_FRAMES = 8


@dataclass
class RunState:
    """What is carried from chunk to chunk: frames held back, the last frame, and the noise field of this run alone."""

    continuity: Continuity
    previous: Tensor | None = None
    noise: NoiseField | None = None


@dataclass(frozen=True)
class HiddenChunk:
    """T frames and everything that decided their pixels, on the pipeline's device.

    frames, output: (T, H, W, 3) uint8.  saliency: (T, A, H, W) and alpha: (T, H, W), float32 in [0, 1].
    flow: (T, 2, H, W) float32 pixels to the previous frame, zeros where none was estimated (whole frame).
    noise: (T, H, W, 3) float32 in 0..255, what was put in the place of pixels.
    """

    frames: Tensor
    output: Tensor
    saliency: Tensor
    alpha: Tensor
    flow: Tensor
    noise: Tensor


class Hider:
    """Hides attributes in a stream of frames of one size.

    attributes: names of attributes and groups of the library, or one text with commas; None is for a comparison
        method: what it covers by itself, for most the whole frame (then `attributes` is empty).
    preset: `strict`, `paper` or `paper-debiased`; any field of `Settings` can be changed by keyword.
    device: `auto`, `cpu` or `cuda`.  seed: for tests only; without it the noise is secret.
    library: a TemplateLibrary, by default the built-in one; `load_library()` has the user's own templates too.
    network: a Backbone that is loaded already; it must be the one that `settings.backbone` names.
    backbone_weights, flow_weights, person_weights: files, for networks whose weights are not in the package; those
        of other backbones and of RAFT are downloaded if they are asked for without a file.

    Raises an AnonymotionError before any frame is read if a setting, an attribute or a file is wrong.
    """

    def __init__(
        self,
        attributes: Sequence[str] | str | None = None,
        preset: str = "strict",
        *,
        device: str = "auto",
        seed: int | None = None,
        library: TemplateLibrary | None = None,
        network: Backbone | None = None,
        backbone_weights: Path | None = None,
        flow_weights: Path | None = None,
        person_weights: Path | None = None,
        **settings: Any,
    ) -> None:
        self.settings: Settings = settings_for(preset, **settings)
        self.device = choose_device(device)
        if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**63):
            raise SettingsError(f"seed {seed!r} is not a whole number from 0 to 2**63 - 1")
        self.seed = seed
        library = library or TemplateLibrary.load()
        self.method = load_method(self.settings.method)
        self.attributes = self._covered(attributes, library)
        library.check_names(self.settings.names_per_attribute())
        if network is not None and network.name != self.settings.backbone:
            raise SettingsError(f"the network given is {network.name}, but the settings name {self.settings.backbone}")
        self.person_mask = load_person_mask(self.settings.person_mask, person_weights, self.device.device)
        self.backbone: Backbone | None = None
        self.flow: FlowEstimator | None = None
        self._banks: list[TemplateBank] = []
        if self.attributes:
            self.backbone, self.flow = self._networks(network, backbone_weights, flow_weights)
            if self.backbone is not None:
                self._banks = self._build_banks(library, self.backbone)
        self._thresholds = torch.tensor([self.settings.threshold[name] for name in self.attributes])
        self._thresholds = self._thresholds.to(self.device.device)
        self.stopwatch = Stopwatch()

    def _covered(self, attributes: Sequence[str] | str | None, library: TemplateLibrary) -> tuple[str, ...]:
        """The attributes asked for, or those that the method covers by itself; none of them: the whole frame."""
        method, name = self.method, self.settings.method
        if self.settings.at_native and not (method and method.has_scale):
            raise SettingsError(f"at_native is for pixelate and blur: it means nothing to method {name}, leave it out")
        if self.settings.person_mask != "ours":
            if attributes is not None:
                raise SettingsError(
                    f"person mask {self.settings.person_mask} finds the whole person and no attributes: leave "
                    "--attributes out, or use --person-mask ours"
                )
            return ("person",)
        if attributes is not None:
            return library.expand(attributes.split(",") if isinstance(attributes, str) else attributes)
        if method is None:
            raise SettingsError(
                f"no attributes were named, and method {name} hides nothing else: name some with --attributes"
            )
        return library.expand(method.covers) if method.covers else ()

    def _build_banks(self, library: TemplateLibrary, backbone: Backbone) -> list[TemplateBank]:
        contrast = {name: self.settings.contrast[name] for name in self.attributes}
        return [
            build_bank(
                library,
                backbone,
                spec,
                names,
                exemplars=self.settings.exemplars,
                contrast=contrast if self.settings.weighs_rivals else None,
            )
            for spec, names in self._attributes_by_spec().items()
        ]

    def _networks(
        self, network: Backbone | None, backbone_weights: Path | None, flow_weights: Path | None
    ) -> tuple[Backbone | None, FlowEstimator]:
        device = self.device.device
        try:
            if self.person_mask is None:
                network = network or Backbone.load(self.settings.backbone, device, backbone_weights)
            else:
                network = None
            return network, load_flow(
                self.settings.flow,
                device,
                flow_weights,
                iterations=self.settings.flow_iterations,
                scale=self.settings.flow_scale,
            )
        except WeightsError as error:
            if self.settings.preset != "paper":
                raise
            # Say at once what is needed in all, not one after the other.
            raise WeightsError(
                f"{error}. Without a connection preset paper needs --backbone-weights (DINOv1 ViT-S/8) and "
                "--flow-weights (RAFT-large); --preset paper-debiased needs neither"
            ) from error

    def _attributes_by_spec(self) -> dict[FeatureSpec, list[str]]:
        groups: dict[FeatureSpec, list[str]] = {}
        for name in self.attributes:
            groups.setdefault(self.settings.spec_of(name), []).append(name)
        return groups

    def hide(self, frames: Iterable[FrameLike]) -> Iterator[FrameLike]:
        """Take frames, (H, W, 3) uint8 RGB of one size, numpy or torch; give as many of the same kind.

        Streams: a frame comes out once its chunk is full and the `look_ahead` frames after it are there, or the input
        has ended.  Each call is a run of its own, with new noise.
        """
        for chunk, kind in self._batches(frames):
            for image in chunk.output.cpu():
                yield image.numpy() if issubclass(kind, np.ndarray) else image

    def saliency(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each frame, (H, W, 3) uint8, the frame and its saliency planes, (A, H, W) float32 in [0, 1].

        Raises SettingsError where a comparison method covers the whole frame.
        """
        if not self.attributes:
            raise SettingsError(f"method {self.settings.method} covers the whole frame: name attributes to find")
        for batch in self._grouped(frames):
            chunk = self._to_chunk(batch, None)
            planes = self._saliency(chunk)
            yield from zip(batch, planes.cpu().numpy(), strict=True)

    def explain(self, frames: Iterable[FrameLike]) -> Iterator[HiddenChunk]:
        """As `hide`, but with saliency, mask, flow and noise of every frame, in chunks on the device."""
        for chunk, _ in self._batches(frames):
            yield chunk

    def _batches(self, frames: Iterable[FrameLike]) -> Iterator[tuple[HiddenChunk, type]]:
        state = RunState(Continuity(self.settings.look_ahead if self._has_masks else 0))
        kind: type = np.ndarray
        for batch in self._grouped(frames):
            kind = type(batch[0])
            chunk = self._to_chunk(batch, state.previous)
            with self._enough_memory(chunk):
                found = self._find(chunk, state)
                with self.stopwatch("mask"):
                    ready = state.continuity.push(found)
            for part in ready:
                yield self._cover(part, state), kind
        for part in state.continuity.flush():
            yield self._cover(part, state), kind

    @staticmethod
    def _grouped(frames: Iterable[FrameLike]) -> Iterator[list[FrameLike]]:
        """As many frames at a time as their size allows."""
        iterator = iter(frames)
        for first in iterator:
            if len(first.shape) != 3 or 0 in first.shape:
                raise SettingsError(f"a frame of shape {tuple(first.shape)} was given: expected (H, W, 3) uint8 RGB")
            size = max(1, min(MAX_CHUNK_FRAMES, CHUNK_PIXELS // (first.shape[0] * first.shape[1])))
            yield [first, *islice(iterator, size - 1)]

    def _to_chunk(self, batch: list[FrameLike], previous: Tensor | None) -> Tensor:
        # a copy only where torch needs one: reversed channels, read-only or mapped memory
        tensors = [
            torch.from_numpy(np.require(f, requirements=("C", "W", "E"))) if isinstance(f, np.ndarray) else f
            for f in batch
        ]
        expected = tensors[0].shape if previous is None else previous.shape
        for tensor in tensors:
            if tensor.dtype != torch.uint8 or tensor.ndim != 3 or tensor.shape[2] != 3 or tensor.shape != expected:
                raise SettingsError(
                    f"a frame of shape {tuple(tensor.shape)} {tensor.dtype} was given: expected (H, W, 3) uint8 RGB, "
                    f"all of one size ({tuple(expected)})"
                )
        return torch.stack(tensors).to(self.device.device)

    @contextmanager
    def _enough_memory(self, frames: Tensor) -> Iterator[None]:
        """Turn what PyTorch raises where memory runs out into a sentence."""
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"{self.device.name} has no memory left for {len(frames)} frames of {frames.shape[2]}x"
                f"{frames.shape[1]}: use a smaller --short-side, or --device cpu"
            ) from error

    def _find(self, frames: Tensor, state: RunState) -> Found:
        """The left half of the picture: what matches in each frame, and how the scene moves."""
        with self.stopwatch("match"):
            saliency = self._saliency(frames)
            mask = self._matched(saliency)
        with self.stopwatch("flow"):
            # with every method, so that runs which differ in nothing else have the same mask and flow
            if self.flow is None:
                flow = torch.zeros(len(frames), 2, *frames.shape[1:3], device=frames.device)
            else:
                flow = flow_to_previous(self.flow, frames, state.previous)
        state.previous = frames[-1]
        return Found(frames, saliency, flow, mask)

    def _cover(self, found: Found, state: RunState) -> HiddenChunk:
        """The right half of the picture: from the mask that is final to the hidden frames."""
        frames, saliency, flow, _ = found
        with self._enough_memory(frames):
            with self.stopwatch("mask"):
                alpha = self._alpha(found)
            with self.stopwatch("noise"):
                if self.method is not None:
                    noise = self.method.replacement(frames, alpha, self.settings.at_native)
                else:
                    if state.noise is None:
                        state.noise = self._new_noise((frames.shape[1], frames.shape[2]))
                    noise = state.noise.chunk(flow)
            with self.stopwatch("composite"):
                output = composite(frames, alpha, noise)
        return HiddenChunk(frames, output, saliency, alpha, flow, noise)

    def _saliency(self, frames: Tensor) -> Tensor:
        """Eq. 1 and 2: patch keys of the frames against the templates, (T, A, H, W); no planes for a whole frame."""
        if self.person_mask is not None:
            return self.person_mask.planes(frames)
        if self.backbone is None:
            return torch.zeros(len(frames), 0, *frames.shape[1:3], device=frames.device)
        found = self.backbone.extract(frames, [bank.spec for bank in self._banks])
        features = [found[bank.spec] for bank in self._banks]
        return saliency_planes(features, self._banks, self.attributes, self.settings.exemplar_aggregation)

    @property
    def _has_masks(self) -> bool:
        """Whether pixels are replaced where something was found: not everywhere, and not by a soft weight."""
        return bool(self.attributes) and self.settings.composite == "replace"

    def _matched(self, saliency: Tensor) -> Tensor:
        """Where each frame by itself reaches a threshold, (T, H, W) bool; nowhere if that decides nothing."""
        if not self._has_masks:
            return torch.zeros(len(saliency), *saliency.shape[2:], dtype=torch.bool, device=saliency.device)
        return masks.threshold_union(saliency, self._thresholds)

    def _alpha(self, found: Found) -> Tensor:
        """Weight of the noise: the aggregated saliency itself (eq. 5), or 1 inside the grown mask or everywhere."""
        if not self.attributes:
            return torch.ones(found.mask.shape, device=found.mask.device)
        if not self._has_masks:
            return aggregate(found.saliency, self.settings.attribute_aggregation)[:, 0]
        percent = min(found.mask.shape[-2:]) / 100
        mask = dilate_with_motion(found.mask, found.flow, self.settings.motion_dilation)
        mask = masks.dilate(mask, round(self.settings.dilation * percent))
        return masks.soft_rim(mask, round(self.settings.feather * percent))

    def _new_noise(self, size_hw: tuple[int, int]) -> NoiseField:
        return make_noise(
            self.settings.noise,
            size_hw,
            mean=self.settings.noise_mean,
            std=self.settings.noise_std,
            device=self.device.device,
            seed=self.seed,
            grain=self.settings.grain_px(size_hw),
        )

    @property
    def mask_source(self) -> dict[str, str]:
        """What decided where: `source`, and the SHA-256 of the weights of a person mask that is not ours."""
        if self.person_mask is not None:
            return {"source": self.person_mask.name, "weights_sha256": self.person_mask.fingerprint}
        return {"source": "templates" if self.attributes else "whole frame"}

    @property
    def networks(self) -> dict[str, Any]:
        """Backbone and flow by name, `none` where a method did without."""
        backbone = ("none", "none") if self.backbone is None else (self.backbone.name, self.backbone.fingerprint)
        return {
            "backbone": dict(zip(("name", "weights_sha256"), backbone, strict=True)),
            "flow": "none" if self.flow is None else self.flow.name,
        }

    def measure(self, chunk: HiddenChunk, coverage: Coverage) -> None:
        """Add a chunk's hidden shares to `coverage`."""
        hidden, shares = hidden_shares(chunk, self.settings, self.attributes)
        for value, row in zip(hidden.tolist(), shares.tolist(), strict=True):
            coverage.add(value, row, matched=value > 0)


def hidden_shares(chunk: HiddenChunk, settings: Settings, attributes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Of each frame the hidden share, (T,), and that of each attribute by itself, (T, A), float32 in [0, 1].

    For a replacement the pixels of the final mask, and those that reach the attribute's threshold; for a blend mean
    weights.
    """
    if settings.composite == "blend":
        return chunk.alpha.mean(dim=(1, 2)), chunk.saliency.mean(dim=(2, 3))
    thresholds = torch.tensor([settings.threshold[name] for name in attributes], device=chunk.saliency.device)
    reached = chunk.saliency >= thresholds[:, None, None]
    return masks.share(chunk.alpha == 1), reached.float().mean(dim=(2, 3))
