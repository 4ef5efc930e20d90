"""The paper's figure as code: `Hider._find`, then `Hider._cover`, read from left to right as the picture does.

    frame ──► backbone ──► patch keys ──┐
                                        ├─► saliency ──► mask ──► continuity ──► policy ──► compositor ──► hidden frame
    templates (picture + point + label)─┘                         (±n frames)                   ▲
    frame, previous ──► flow ─────────────────────────────────────────┴──────► moved noise ─────┘

A comparison method (`methods`) puts another picture in the place of the noise; named without attributes it covers
the whole frame, and then neither backbone nor flow is there.

The unit is a chunk: (T, H, W, 3) uint8 on one device, and the state carried from the chunk before.  Continuity holds
the last n frames back, so the chunks that come out of it are not those that went in.

Not here: files (run.py), what a stage does (its module), printing (cli).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anonymotion import masks
from anonymotion.backbone import Backbone
from anonymotion.chunks import FrameLike, HiddenChunk, as_chunk, grouped, halves, halves_found, hidden_shares
from anonymotion.compositor import composite
from anonymotion.continuity import Continuity, Found, dilate_with_motion
from anonymotion.device import choose_device, in_parts, is_out_of_memory
from anonymotion.editing import Editor, Regions, Seconds
from anonymotion.errors import DeviceError, SettingsError, WeightsError
from anonymotion.flow import FlowEstimator, flow_to_previous, load_flow
from anonymotion.keyframes import KeyFrames
from anonymotion.matcher import Matched, Matcher
from anonymotion.memory import Room, parse_memory
from anonymotion.methods import load_method, load_person_mask
from anonymotion.policy import Policy
from anonymotion.presets import Settings
from anonymotion.results import Coverage, Stopwatch
from anonymotion.reuse import Reuse
from anonymotion.saliency import aggregate
from anonymotion.scheduler import ahead
from anonymotion.state import RunState
from anonymotion.template_bank import BankBuilder, build_bank
from anonymotion.templates import TemplateLibrary

# Of each frame when it appears and when it goes.
Times = Iterable[tuple[Seconds, Seconds]]


class Hider:
    """Hides attributes in a stream of frames of one size.

    attributes: names of attributes and groups of the library, or one text with commas; None is for a policy that
        names them or has masks or shapes to hide, or a comparison method: what it covers by itself, for most the
        whole frame (then `attributes` is empty).
    preset: `strict` (None), `paper` or `paper-debiased`; any field of `Settings` can be changed by keyword.
    policy: what must stay visible, shapes, spans, own masks; its attributes, preset and settings count where they are
        not given here.
    device: `auto`, `cpu` or `cuda`.  engine: what runs the backbone, of `registry.ENGINES`.
    max_memory: what a run may take, `2G` or bytes: of the process on a CPU, of the graphics card on CUDA.
    seed: for tests only; without it the noise is secret.
    library: a TemplateLibrary, by default the built-in one; `load_library()` has the user's own templates too.
    network: a Backbone that is loaded already; it must be the one that `settings.backbone` names.
    backbone_weights, flow_weights, person_weights: files, for networks whose weights are not in the package; those
        of other backbones and of RAFT are downloaded if they are asked for without a file.
    bank_builder: `build_bank`, or for a caller who asks again and again what keeps the banks that it built.

    Raises an AnonymotionError before any frame is read if a setting, an attribute or a file is wrong.
    """

    def __init__(
        self,
        attributes: Sequence[str] | str | None = None,
        preset: str | None = None,
        *,
        policy: Policy | None = None,
        device: str = "auto",
        engine: str = "auto",
        max_memory: str | int | None = None,
        seed: int | None = None,
        library: TemplateLibrary | None = None,
        network: Backbone | None = None,
        backbone_weights: Path | None = None,
        flow_weights: Path | None = None,
        person_weights: Path | None = None,
        bank_builder: BankBuilder = build_bank,
        **settings: Any,
    ) -> None:
        self.policy = (policy or Policy()).overridden(attributes=attributes, preset=preset, settings=settings)
        self.settings: Settings = self.policy.effective_settings()
        self.device = choose_device(device)
        self.max_memory = None if max_memory is None else parse_memory(max_memory)
        if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**63):
            raise SettingsError(f"seed {seed!r} is not a whole number from 0 to 2**63 - 1")
        self.seed = seed
        library = library or TemplateLibrary.load()
        self.method = load_method(self.settings.method)
        self.attributes = self._covered(library)
        self.kept = self.policy.kept(library)
        library.check_names(self.settings.names_per_attribute())
        if network is not None and network.name != self.settings.backbone:
            raise SettingsError(f"the network given is {network.name}, but the settings name {self.settings.backbone}")
        self.person_mask = load_person_mask(self.settings.person_mask, person_weights, self.device.device)
        self.backbone: Backbone | None = None
        self.flow: FlowEstimator | None = None
        if not self.covers_whole_frame or self.kept:
            self.backbone, self.flow = self._networks(network, backbone_weights, flow_weights, engine)
        self.matcher = Matcher(
            self.settings,
            library,
            self.attributes,
            self.kept,
            backbone=self.backbone,
            person_mask=self.person_mask,
            device=self.device.device,
            bank_builder=bank_builder,
        )
        self.stopwatch = Stopwatch()

    def _covered(self, library: TemplateLibrary) -> tuple[str, ...]:
        """The attributes asked for, or those that the method covers by itself; none: the whole frame, or regions."""
        method, name, attributes = self.method, self.settings.method, self.policy.asked(library)
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
            return attributes
        if method is None and not self.policy.marks_regions:
            raise SettingsError(
                f"no attributes were named, and method {name} hides nothing else: name some with --attributes, or give "
                "--include or --masks"
            )
        return library.expand(method.covers) if method is not None and method.covers else ()

    @property
    def room(self) -> Room:
        """How much memory there is for frames in work."""
        return Room(self.device.device, self.matcher, self.flow, self.max_memory)

    @property
    def covers_whole_frame(self) -> bool:
        """Whether a comparison method covers everything: nothing was named that it should cover."""
        return not self.attributes and not self.policy.marks_regions

    def _networks(
        self, network: Backbone | None, backbone_weights: Path | None, flow_weights: Path | None, engine: str
    ) -> tuple[Backbone | None, FlowEstimator]:
        device = self.device.device
        try:
            if self.kept or (self.attributes and self.person_mask is None):
                network = network or Backbone.load(self.settings.backbone, device, backbone_weights, engine)
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

    def hide(self, frames: Iterable[FrameLike], times: Times | None = None) -> Iterator[FrameLike]:
        """Take frames, (H, W, 3) uint8 RGB of one size, numpy or torch; give as many of the same kind.

        Streams: a frame comes out once its chunk is full and the `held_back` frames after it are there, or the input
        has ended.  Each call is a run of its own, with new noise.  times: of each frame when it appears and when it
        goes, in seconds after the first; a policy with spans needs them.
        """
        state = self._new_run(times)
        for chunk in self._chunks(frames, state):
            for image in chunk.output.cpu():
                yield image.numpy() if issubclass(state.kind, np.ndarray) else image

    def saliency(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each frame, (H, W, 3) uint8, the frame and its saliency planes, (A, H, W) float32 in [0, 1].

        Raises SettingsError where no attribute is to be found: shapes, masks, the whole frame.
        """
        if not self.attributes:
            raise SettingsError("no attributes are named, only shapes, masks or the whole frame: name some to find")
        for batch, _ in grouped(frames, self.room.frames):
            chunk = as_chunk(batch, None, self.device.device)
            planes = self.matcher.find(chunk).saliency
            yield from zip(batch, planes.cpu().numpy(), strict=True)

    def explain(
        self, frames: Iterable[FrameLike], times: Times | None = None, *, overlap: bool = False
    ) -> Generator[HiddenChunk, None, None]:
        """As `hide`, but with saliency, mask, flow and noise of every frame, in chunks on the device.

        overlap: work on the next chunks in threads, where `frames` is read then, while this one is used; the result is
        the same.  The threads have ended when the generator has, or is closed.
        """
        yield from self._chunks(frames, self._new_run(times), overlap=overlap)

    def _new_run(self, times: Times | None) -> RunState:
        by_threshold, reach = self.matcher.decides_by_threshold, self.settings.look_ahead
        # what is to stay visible is not carried along the flow: it has to be found where it is
        every = self.settings.every if by_threshold and not self.kept else "1"
        keys = KeyFrames(every, adapts=reach > 0)
        editor = Editor(self.policy, times) if self.policy.edits else None
        # nor is it taken from an earlier frame
        reuse = Reuse(self.settings.reuse) if by_threshold and not self.kept else None
        return RunState(Continuity(reach if by_threshold else 0, keys.longest), keys, every != "1", editor, reuse)

    def _chunks(self, frames: Iterable[FrameLike], state: RunState, *, overlap: bool = False) -> Iterator[HiddenChunk]:
        """The whole picture, its halves one after the other or each in a thread."""
        found = self._found(frames, state)
        if not overlap:
            yield from self._hidden(found, state)
            return
        with ahead(found, "find") as ready, ahead(self._hidden(ready, state), "cover") as chunks:
            yield from chunks

    def _found(self, frames: Iterable[FrameLike], state: RunState) -> Generator[Found, None, None]:
        for batch, last in grouped(frames, self.room.frames, ahead=state.needs_last):
            state.kind = type(batch[0])
            yield from self._searched(batch, state, last=last)
        yield from state.continuity.flush()

    def _searched(self, batch: list[FrameLike], state: RunState, *, last: bool) -> Iterator[Found]:
        """The next frames searched; those, of these and of earlier ones, whose mask is final."""
        chunk = as_chunk(batch, state.previous, self.device.device)
        with self._enough_memory(chunk):
            for found in in_parts((chunk, last), partial(self._find, state=state), halves):
                with self.stopwatch("mask"):
                    ready = state.continuity.push(found)
                yield from ready

    def _hidden(self, found: Iterable[Found], state: RunState) -> Generator[HiddenChunk, None, None]:
        # nothing here holds on to a chunk while the next one is waited for
        for parts in map(partial(self._covered_parts, state=state), found):
            yield from parts
        if state.editor is not None:
            state.editor.finish()

    def _covered_parts(self, found: Found, state: RunState) -> Iterator[HiddenChunk]:
        """The frames found hidden: as one chunk, or where memory runs out in more."""
        frames, regions = found.frames, None
        with self._enough_memory(frames):
            if state.editor is not None:
                with self.stopwatch("mask"):
                    size_hw = (frames.shape[1], frames.shape[2])
                    regions = state.editor.take(len(frames), size_hw, found.kept, frames.device)
            yield from in_parts((found, regions), partial(self._cover, state=state), halves_found)

    @contextmanager
    def _enough_memory(self, frames: Tensor) -> Iterator[None]:
        """Turn what PyTorch raises where memory runs out for a single frame into a sentence."""
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"{self.device.name} has no memory left for a frame of {frames.shape[2]}x{frames.shape[1]}: use a "
                "smaller --short-side, a --max-memory below what is free, or --device cpu"
            ) from error

    def _find(self, given: tuple[Tensor, bool], state: RunState) -> Found:
        """The left half of the picture: how the scene moves, and what matches in the frames that are looked at.

        given: frames, and whether the stream ends with them.  If it fails, `state` is as it was.
        """
        frames, last = given
        keys, reuse = deepcopy(state.keys), copy(state.reuse)
        with self.stopwatch("flow"):
            # with every method, so that runs which differ in nothing else have the same mask and flow
            if self.flow is None:
                flow = torch.zeros(len(frames), 2, *frames.shape[1:3], device=frames.device)
            else:
                flow = flow_to_previous(self.flow, frames, state.previous)
        with self.stopwatch("match"):
            chosen = keys.choose(frames, flow, last=last)
            matched = self._matched(frames, chosen, reuse)
            keys.learn(chosen, matched.mask, flow)
            searched = torch.zeros(len(frames), dtype=torch.bool, device=frames.device)
            searched[chosen] = True
        state.keys, state.reuse, state.previous = keys, reuse, frames[-1]
        return Found(frames, matched.saliency, flow, matched.mask, searched, matched.kept)

    def _matched(self, frames: Tensor, chosen: list[int], reuse: Reuse | None) -> Matched:
        """What was found in the `chosen` of the frames; nothing in the others."""
        if len(chosen) == len(frames):
            return self.matcher.find(frames, reuse)
        saliency = torch.zeros(len(frames), len(self.attributes), *frames.shape[1:3], device=frames.device)
        mask = torch.zeros(saliency[:, 0].shape, dtype=torch.bool, device=frames.device)
        if chosen:
            found = self.matcher.find(frames[chosen], reuse)
            saliency[chosen], mask[chosen] = found.saliency, found.mask
        return Matched(saliency, mask, None)

    def _cover(self, given: tuple[Found, Regions | None], state: RunState) -> HiddenChunk:
        """The right half of the picture: from the mask that is final to the hidden frames.

        given: what was found, and what a policy says of these frames.  If it fails, `state` is as it was.
        """
        (found, regions), edits = given, None
        frames = found.frames
        with self.stopwatch("mask"):
            weight = self._weight(found)
            if regions is None:
                alpha = self._alpha(weight)
            else:
                edits = regions.given_back(weight)
                alpha = self._alpha(regions.edit(weight)).masked_fill_(regions.free, 0)
        moved = None
        with self.stopwatch("noise"):
            if self.method is not None:
                noise = self.method.replacement(frames, alpha, self.settings.at_native)
            else:
                moved = state.noise_of(self.settings, frames, self.seed).copy()
                noise = moved.chunk(found.flow)
        with self.stopwatch("composite"):
            output = composite(frames, alpha, noise)
        state.noise = moved
        return HiddenChunk(frames, output, found.saliency, alpha, found.flow, noise, found.searched, edits)

    def _weight(self, found: Found) -> Tensor:
        """What a policy edits, (T, H, W): the aggregated saliency (eq. 5), or a bool mask: grown, all, or nothing."""
        mask = found.mask
        if not self.attributes:
            return torch.full_like(mask, self.covers_whole_frame)
        if not self.matcher.decides_by_threshold:
            return aggregate(found.saliency, self.settings.attribute_aggregation)[:, 0]
        mask = dilate_with_motion(mask, found.flow, self.settings.motion_dilation)
        return masks.dilate(mask, round(self.settings.dilation * min(mask.shape[-2:]) / 100))

    def _alpha(self, weight: Tensor) -> Tensor:
        """Weight of the noise, (T, H, W) float32: a soft weight as it is, a mask with a soft rim around it."""
        if weight.dtype != torch.bool:
            return weight
        return masks.soft_rim(weight, round(self.settings.feather * min(weight.shape[-2:]) / 100))

    @property
    def mask_source(self) -> dict[str, str]:
        """What decided where: `source`, and the SHA-256 of the weights of a person mask that is not ours."""
        if self.person_mask is not None:
            return {"source": self.person_mask.name, "weights_sha256": self.person_mask.fingerprint}
        if self.attributes:
            return {"source": "templates"}
        return {"source": "whole frame" if self.covers_whole_frame else "regions"}

    @property
    def networks(self) -> dict[str, Any]:
        """Backbone, what runs it, and flow by name, `none` where a method did without."""
        used = self.backbone
        backbone = ("none",) * 3 if used is None else (used.name, used.fingerprint, used.engine.name)
        return {
            "backbone": dict(zip(("name", "weights_sha256", "engine"), backbone, strict=True)),
            "flow": "none" if self.flow is None else self.flow.name,
        }

    def measure(self, chunk: HiddenChunk, coverage: Coverage) -> None:
        """Add a chunk's hidden shares to `coverage`."""
        hidden, shares = hidden_shares(chunk, self.settings, self.attributes)
        outside = chunk.edits.outside if chunk.edits is not None else (False,) * len(hidden)
        searched = chunk.searched.tolist()
        for value, row, looked, unsought in zip(hidden.tolist(), shares.tolist(), searched, outside, strict=True):
            coverage.add(value, row if looked else None, matched=value > 0 or unsought)
