"""Claims of the paper's text, each with a number: `CLAIMS` by name, from any clips.

    motion     "motion information does not differ": endpoint error of the flow inside the mask
    codec      the same after H.264 at three qualities, and the masks found in clips that were encoded before
    pictures   "the choice of the source picture is not critical": masks from one picture against those from all
    dilution   adding templates dilutes: what nine do to the region that four hide, by how they are joined
    overlap    how much of an attribute's map lies in another's
    runtime    time per frame and stage, by preset

Not here: figures, recognition (`bench run` with experiments/weizmann_claims.toml has the dilution's).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anonymotion.device import choose_device
from anonymotion.errors import SettingsError, TemplateError
from anonymotion.flow import load_flow
from anonymotion.pipeline import Hider
from anonymotion.presets import PRESETS
from anonymotion.research import motion
from anonymotion.research.looks import Look, OnePass, Seen, look_at
from anonymotion.research.metrics import bootstrap_mean
from anonymotion.research.tables import Cell, Heading, Row, Table
from anonymotion.templates import TemplateLibrary

EVERYTHING = "person"
BLENDED = ("mean", "max", "noisy-or")


@dataclass(frozen=True)
class Question:
    """What a claim is measured on.

    clips: videos or folders of frames.  frames: how many from the middle of each.  attributes: names with commas.
    settings: changed fields of `Settings` of the presets.  flow_weights: of RAFT, backbone_weights: of preset paper.
    flows: estimators that motion is seen by, flow_scale: how frames are resized for them.  clip_done: told of each.
    """

    clips: tuple[Path, ...]
    frames: int = 8
    attributes: str = "torso,arm,leg,hair"
    device: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    flows: tuple[str, ...] = ("dis",)
    flow_scale: float = 1.0
    flow_weights: Path | None = None
    backbone_weights: Path | None = None
    methods: tuple[str, ...] = motion.HIDING + motion.COMPARED
    qualities: tuple[int, ...] = motion.QUALITIES
    clip_done: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        if not self.clips:
            raise SettingsError("no clips were given: name videos or folders of frames")
        if self.frames < 2:
            raise SettingsError(f"--frames is {self.frames}: expected at least 2")

    def hidden(self, methods: Sequence[str] | None = None) -> Iterator[motion.Hidden]:
        """Every clip as the methods show it."""
        return motion.hide_clips(
            self.clips,
            methods or self.methods,
            frames=self.frames,
            attributes=self.attributes,
            device=self.device,
            settings=self.settings,
        )

    def estimators(self) -> dict[str, Any]:
        """Flow by name; the weights are for those that have some."""
        device = choose_device(self.device).device
        return {
            name: load_flow(name, device, self.flow_weights if name.startswith("raft") else None, scale=self.flow_scale)
            for name in self.flows
        }

    def seen(self, looks: Sequence[Look]) -> Iterator[tuple[str, list[Seen]]]:
        """What looks found in each clip."""
        for path in self.clips:
            frames = motion.middle_frames(path, self.frames)
            yield path.name, list(look_at(looks, frames))
            if self.clip_done is not None:
                self.clip_done(path.name)

    def network(self) -> OnePass:
        """The backbone of preset strict; every frame passes it once for all looks."""
        loaded = OnePass.load(PRESETS["strict"].backbone, choose_device(self.device).device, engine="auto")
        assert isinstance(loaded, OnePass)  # noqa: S101 - for mypy: `load` makes its own class
        return loaded

    def look(self, preset: str, network: OnePass, library: TemplateLibrary, attributes: str, **changes: Any) -> Look:
        """A way to look, that shares the network with others."""
        fields = {**self.settings, **changes}
        hider = Hider(attributes, preset, network=network, library=library, device=self.device, **fields)
        return Look(hider, library.digest)


def claim_motion(question: Question) -> list[Table]:
    """Before encoding: inside, outside, and as a share of iid noise."""
    found = motion.measure(question.hidden(), question.estimators(), (), question.clip_done)
    return motion.motion_tables(found)


def claim_codec(question: Question) -> list[Table]:
    """The same of ours and the two other noises, after H.264 at several qualities, with the bits that they take.

    Last, what a clip that was encoded before it was hidden does to the masks.
    """
    hidden = question.hidden([name for name in question.methods if name in motion.HIDING] or motion.HIDING)
    measured = motion.measure(hidden, question.estimators(), question.qualities, question.clip_done)
    return [*motion.motion_tables(measured), _masks_of_encoded(question)]


def _masks_of_encoded(question: Question) -> Table:
    """Masks of strict in clips after H.264, against those in the clips as they are."""
    look = question.look("strict", question.network(), TemplateLibrary.load(), question.attributes)
    encodings = (None, *question.qualities)
    values: dict[int | None, list[tuple[float, float, float | None]]] = {quality: [] for quality in encodings}
    for path in question.clips:
        frames = torch.from_numpy(motion.middle_frames(path, question.frames))
        clean = torch.zeros(frames.shape[:3])
        for quality in encodings:
            shown = frames if quality is None else motion.encoded(frames, quality)[0]
            found = torch.cat([seen.alphas[look.digest] for seen in look_at([look], shown.numpy())])
            clean = found if quality is None else clean
            again = float((found[clean == 1] == 1).double().mean()) if (clean == 1).any() else None
            values[quality].append((float(found.mean()), soft_iou(found, clean), again))
        if question.clip_done is not None:
            question.clip_done(f"masks of {path.name}")
    rows = []
    for quality in encodings:
        hidden, alike, again_found = zip(*values[quality], strict=True)
        known = [value for value in again_found if value is not None]
        cells = (_mean(hidden), _mean(alike), _mean(known) if known else Cell())
        rows.append(Row(motion.encoding_name(quality), cells, ranked=False))
    headings = (Heading("hidden share"), Heading("IoU with before encoding"), Heading("of those pixels, hidden again"))
    notes = (
        f"{question.attributes}; the clip is encoded first, then strict looks for masks in it",
        f"mean over {len(question.clips)} clips; brackets: 95 % bootstrap over clips",
    )
    return Table("Masks found in encoded clips", headings, tuple(rows), notes)


def claim_pictures(question: Question) -> list[Table]:
    """Masks that one source picture gives against those of all, and of the other pictures; for two presets."""
    library, network = TemplateLibrary.load(), question.network()
    names = source_pictures(library, question.attributes)
    return [_pictures_of(question, preset, names, library, network) for preset in ("strict", "paper-debiased")]


def source_pictures(library: TemplateLibrary, attributes: str) -> list[str]:
    """Pictures that have a template of every attribute.  Raises SettingsError if there are fewer than two."""
    wanted, found = library.expand(attributes.split(",")), []
    for name in library.pictures:
        try:
            for attribute in wanted:
                library.exemplars(attribute, name)
        except TemplateError:
            continue  # this picture does not show all of them
        found.append(name)
    if len(found) < 2:
        raise SettingsError(f"{len(found)} pictures show all of {attributes}: name fewer attributes")
    return found


def _pictures_of(
    question: Question, preset: str, names: Sequence[str], library: TemplateLibrary, network: OnePass
) -> Table:
    whole = "first" if preset == "paper-debiased" else "all"
    looks = {
        name: question.look(preset, network, library, question.attributes, exemplars=name) for name in (whole, *names)
    }
    alike: dict[tuple[str, str], list[float]] = {(a, b): [] for a in looks for b in looks}
    hidden: dict[str, list[float]] = {name: [] for name in looks}
    for _, parts in question.seen(list(looks.values())):
        alphas = {name: torch.cat([seen.alphas[look.digest] for seen in parts]) for name, look in looks.items()}
        for (a, b), values in alike.items():
            values.append(soft_iou(alphas[a], alphas[b]))
        for name, alpha in alphas.items():
            hidden[name].append(float(alpha.mean()))
    rows = []
    for name in looks:
        others = [other for other in names if other != name]
        between = np.mean([alike[name, other] for other in others], axis=0)
        label = {"all": "all pictures", "first": "the first exemplar of each"}.get(name, name)
        rows.append(Row(label, (_mean(hidden[name]), _mean(alike[name, whole]), _mean(list(between)))))
    headings = (Heading("hidden share"), Heading(f"IoU with {whole}"), Heading("mean IoU with the other pictures"))
    notes = (
        f"{question.attributes}; IoU of weights: sum of minima over sum of maxima, per clip",
        f"mean over {len(question.clips)} clips; brackets: 95 % bootstrap over clips",
    )
    return Table(f"Templates of one source picture, preset {preset}", headings, tuple(rows), notes)


def soft_iou(one: Tensor, other: Tensor) -> float:
    """Sum of minima over sum of maxima of two weights in [0, 1] of one shape; 1 where both are zero everywhere."""
    union = float(torch.maximum(one, other).double().sum())
    return float(torch.minimum(one, other).double().sum()) / union if union else 1.0


def _mean(values: Sequence[float]) -> Cell:
    interval = bootstrap_mean(np.array(values, np.float64))
    return Cell(interval.value, interval.low, interval.high)


def claim_dilution(question: Question) -> list[Table]:
    """The weight of the noise where the attributes asked for are hidden, when they are asked for with all nine."""
    library, network = TemplateLibrary.load(), question.network()
    ways = {
        f"{'mean (eq. 1)' if how == 'mean' else how} of soft weights": (
            "paper-debiased",
            {"attribute_aggregation": how},
        )
        for how in BLENDED
    }
    ways["union of masks (strict)"] = ("strict", {})
    looks = {
        (way, names): question.look(preset, network, library, names, **changes)
        for way, (preset, changes) in ways.items()
        for names in (question.attributes, EVERYTHING)
    }
    region = looks["union of masks (strict)", question.attributes].digest
    weights: dict[tuple[str, str], list[float]] = {key: [] for key in looks}
    weaker: dict[str, list[float]] = {way: [] for way in ways}
    for _, parts in question.seen(list(looks.values())):
        where = torch.cat([seen.alphas[region] for seen in parts]) == 1
        if not where.any():
            continue  # nothing is hidden in this clip
        alphas = {key: torch.cat([s.alphas[look.digest] for s in parts])[where] for key, look in looks.items()}
        for key, alpha in alphas.items():
            weights[key].append(float(alpha.mean()))
        for way in ways:
            lost = alphas[way, EVERYTHING] < alphas[way, question.attributes] - 1e-6
            weaker[way].append(float(lost.float().mean()))
    count = len(next(iter(weaker.values())))
    if not count:
        raise SettingsError(f"nothing of {question.attributes} was found in any clip: give other clips")
    rows = tuple(
        Row(way, (_mean(weights[way, question.attributes]), _mean(weights[way, EVERYTHING]), _mean(weaker[way])))
        for way in ways
    )
    headings = (
        Heading(f"weight, {question.attributes}", "higher", 2, 1.0),
        Heading("weight, all nine", "higher", 2, 1.0),
        Heading("pixels that got weaker", "lower"),
    )
    notes = (
        f"where strict hides {question.attributes}; {count} of {len(question.clips)} clips have such a place",
        "brackets: 95 % bootstrap over clips",
    )
    return [Table("Weight of the noise with four attributes and with nine", headings, rows, notes)]


def claim_overlap(question: Question) -> list[Table]:
    """The share of each attribute's pixels that is also another's; all nine asked for together, as strict does."""
    library, network = TemplateLibrary.load(), question.network()
    hider = question.look("strict", network, library, EVERYTHING).hider
    names = hider.attributes
    network.expect(hider.settings.spec_of(name) for name in names)
    limits = np.array([hider.settings.threshold[name] for name in names])[:, None, None]
    both, own = np.zeros((len(names), len(names))), np.zeros(len(names))
    frames = 0
    for path in question.clips:
        for _, planes in hider.saliency(motion.middle_frames(path, question.frames)):
            reached = (planes >= limits).reshape(len(names), -1).astype(np.float64)
            both += reached @ reached.T
            own += reached.sum(axis=1)
            frames += 1
        if question.clip_done is not None:
            question.clip_done(path.name)
    rows = tuple(
        Row(name, tuple(Cell(both[i, j] / own[i] if own[i] else None) for j in range(len(names))), ranked=False)
        for i, name in enumerate(names)
    )
    notes = (
        f"percent of the row's pixels that are in the column's map too; {frames} frames of {len(question.clips)} clips",
        "all nine asked for together, so that none takes evidence from another: alone each is smaller (fig4)",
    )
    return [Table("Overlap of attributes", tuple(Heading(name, "", 0) for name in names), rows, notes)]


STAGES = ("match", "flow", "mask", "noise", "composite")


def claim_runtime(question: Question) -> list[Table]:
    """Milliseconds per frame by preset and stage, without decoding and encoding, on the first clip."""
    frames = motion.middle_frames(question.clips[0], question.frames)
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "strict": ("strict", {}),
        "strict, each frame matched": ("strict", {"every": "1"}),
        "paper-debiased": ("paper-debiased", {}),
    }
    notes = []
    if question.backbone_weights is not None and question.flow_weights is not None:
        files = {"backbone_weights": question.backbone_weights, "flow_weights": question.flow_weights}
        asked["paper"] = ("paper", files)
    else:
        notes.append("paper was not timed: it needs --backbone-weights and --flow-weights (RAFT-large)")
    rows, device = [], choose_device(question.device)
    engine = ""
    for label, (preset, options) in asked.items():
        hider = Hider(question.attributes, preset, device=question.device, **{**question.settings, **options})
        engine = hider.networks["backbone"]["engine"]
        deque(hider.hide(frames[:2]), maxlen=0)  # not timed: networks are still adapting to the size
        hider.stopwatch.seconds.clear()
        started = time.perf_counter()
        count = sum(1 for _ in hider.hide(frames))
        per_frame = (time.perf_counter() - started) / count
        stages = [hider.stopwatch.seconds.get(stage, 0.0) / count for stage in STAGES]
        rows.append(Row(label, tuple(Cell(value) for value in (per_frame, *stages)), ranked=False))
    headings = tuple(Heading(name, "", 0, 1000.0) for name in ("ms/frame", *STAGES))
    height, width = frames.shape[1:3]
    notes.insert(
        0,
        f"{question.attributes}, {len(frames)} frames of {width}x{height}; {device.name}, "
        f"{torch.get_num_threads()} threads, engine {engine}",
    )
    return [Table("Time per frame", headings, tuple(rows), tuple(notes))]


@dataclass(frozen=True)
class Claim:
    """What the paper says, and what measures it."""

    says: str
    measure: Callable[[Question], list[Table]]


CLAIMS: dict[str, Claim] = {
    "motion": Claim("motion information does not differ from the original", claim_motion),
    "codec": Claim("the same after encoding", claim_codec),
    "pictures": Claim("the choice of the template images is not critical", claim_pictures),
    "dilution": Claim("more templates dilute the saliency", claim_dilution),
    "overlap": Claim("overlap of individual saliency maps", claim_overlap),
    "runtime": Claim("about 100 ms/frame on an RTX 4080", claim_runtime),
}
