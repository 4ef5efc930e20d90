"""Which attributes to hide in a data set: candidates measured on validation clips, a policy, and what it is worth.

The networks are the probes of an experiment's columns, trained on the clean clips that train (static threat) and shown
hidden clips that validate.  Clips that a split tests are used for one thing only: to say what choosing is worth.  For
that every split chooses anew, from validation clips (of all splits) that it does not test, and its choice is measured
on what it tests (nested cross-validation).

Not here: the search and the rule (selection), how a subset is hidden without matching (maps).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anonymotion.device import choose_device
from anonymotion.errors import SettingsError
from anonymotion.policy import Policy
from anonymotion.presets import PRESETS, PerAttribute, Settings
from anonymotion.research.clips import frames_of, read_clip
from anonymotion.research.datasets import Clip, Dataset
from anonymotion.research.experiments import Column, Experiment
from anonymotion.research.features import BACKBONE, FeatureStore, extractor_entry
from anonymotion.research.looks import OnePass
from anonymotion.research.maps import MapHider, MapMaker, MapStore, map_settings
from anonymotion.research.metrics import Outcomes, average, strongest, trade_off, trade_off_error
from anonymotion.research.probes import PROBES, Examples, Probe
from anonymotion.research.selection import Candidate, Score, Scored, pareto_front, recommend, search
from anonymotion.research.tables import Cell, Heading, Row, Table
from anonymotion.research.variants import PAPER_ATTRIBUTES
from anonymotion.templates import TemplateLibrary

Told = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """What `choose` found.

    tried: on all validation clips.  recommended: of them.  nested: per split what it chose without its tested clips.
    default: the paper's subset for the data set.  tested: what the nested choices, the default and nothing hidden are
    worth on tested clips.  left_out: networks that are no probes.
    """

    tried: list[Scored]
    recommended: Scored
    nested: list[Candidate]
    default: Candidate
    tested: dict[str, Score]
    left_out: tuple[str, ...]
    settings: Settings

    def policy(self) -> Policy:
        """For `hide --policy`."""
        candidate = self.recommended[0]
        plain, base = scaled(self.settings, candidate.scale).as_json(), PRESETS["strict"].as_json()
        changed = {name: value for name, value in plain.items() if value != base[name]}
        return Policy(attributes=candidate.attributes, preset="strict", settings=changed)

    def tables(self) -> list[Table]:
        """All candidates, the front marked; and what choosing is worth on clips that did not choose."""
        front = {candidate for candidate, _ in pareto_front(self.tried)}
        rows = []
        for candidate, score in sorted(self.tried, key=lambda one: -one[1].f):
            marks = ("* " if candidate == self.recommended[0] else "") + ("front: " if candidate in front else "")
            rows.append(Row(f"{marks}{candidate}", _cells(score), bool(candidate.attributes)))
        notes = [
            "validation clips only; *: recommended, the smallest subset within one standard error of the best f",
            "front: no other candidate is better in action or privacy without being worse in the other",
        ]
        if self.left_out:
            notes.append(f"no probes, and left out: {', '.join(self.left_out)}")
        first = Table("Candidates", _HEADINGS, tuple(rows), tuple(notes))
        chosen = "; ".join(f"split {number}: {candidate}" for number, candidate in enumerate(self.nested))
        tested = tuple(Row(name, _cells(score), name != str(Candidate(()))) for name, score in self.tested.items())
        note = f"on tested clips; each split chose from validation clips that it does not test: {chosen}"
        return [first, Table("What choosing is worth", _HEADINGS, tested, (note,))]


_HEADINGS = (
    Heading("action", "higher"),
    Heading("privacy", "lower"),
    Heading("f", "higher", 3, 1.0),
    Heading("standard error", "", 3, 1.0),
    Heading("hidden share"),
)


def _cells(score: Score) -> tuple[Cell, ...]:
    return tuple(Cell(value) for value in (score.action, score.privacy, score.f, score.error, score.hidden))


def scaled(settings: Settings, scale: float) -> Settings:
    """The settings with every threshold times `scale`, at most 1, to three digits."""
    from dataclasses import replace

    def times(value: float) -> float:
        return min(1.0, round(value * scale, 3))

    limits = settings.threshold
    exceptions = tuple((name, times(value)) for name, value in limits.exceptions)
    return replace(settings, threshold=PerAttribute(times(limits.default), exceptions))


def choose(
    experiment: Experiment,
    dataset: Dataset,
    work: Path,
    *,
    most: int = 4,
    scales: Sequence[float] = (0.75, 1.0, 1.25),
    attributes: Sequence[str] = (),
    settings: Settings | None = None,
    library: TemplateLibrary | None = None,
    device: str = "auto",
    tell: Told | None = None,
) -> Choice:
    """Search the subsets of `attributes` (by default all) for the first action and the first privacy column.

    library: by default the built-in one.
    work: a folder for maps and features, which another call goes on with.
    Raises SettingsError if a column has no probes, splits of the columns differ in number, or nothing validates.
    """
    bench = _Trials(experiment, dataset, work, settings or map_settings(), library, device, tell)
    known = bench.maker.attributes
    unknown = [name for name in attributes if name not in known]
    if unknown:
        raise SettingsError(f"attribute {unknown[0]!r} cannot be chosen: use some of {', '.join(known)}")
    names = tuple(name for name in known if not attributes or name in attributes)
    papers = bench.maker.library.expand(PAPER_ATTRIBUTES[dataset.name].split(","))
    default = Candidate(tuple(name for name in known if name in papers))

    def found(without: Collection[str]) -> list[Scored]:
        return search(lambda candidate: bench.validate(candidate, without), names, most, scales, also=[default])

    tried = found(())
    nested = [recommend(found(bench.tested_by(number)))[0] for number in range(bench.splits)]
    nothing = Candidate(())
    tested = {
        "chosen by each split": bench.test(nested),
        f"the paper's: {default}": bench.test([default] * bench.splits),
        str(nothing): bench.test([nothing] * bench.splits),
    }
    return Choice(tried, recommend(tried), nested, default, tested, bench.left_out, bench.settings)


class _Trials:
    """Hides clips as candidates say, and asks the probes about them; nothing is computed twice."""

    def __init__(
        self,
        experiment: Experiment,
        dataset: Dataset,
        work: Path,
        settings: Settings,
        library: TemplateLibrary | None,
        device: str,
        tell: Told | None,
    ) -> None:
        self.experiment, self.dataset, self.settings, self._tell = experiment, dataset, settings, tell
        self.columns = [_first(experiment, action=True), _first(experiment, action=False)]
        if len({len(column.splits) for column in self.columns}) > 1:
            raise SettingsError(
                f"the columns {self.columns[0].name} and {self.columns[1].name} need as many splits each"
            )
        self.splits = len(self.columns[0].splits)
        self.probes = {column.name: [n for n in column.networks if n in PROBES] for column in self.columns}
        if not all(self.probes.values()):
            raise SettingsError(f"a column of {experiment.name} has no probe: use some of {', '.join(PROBES)}")
        everyone = [name for column in self.columns for name in column.networks]
        self.left_out = tuple(dict.fromkeys(name for name in everyone if name not in PROBES))
        torch_device = choose_device(device).device
        network = OnePass.load(settings.backbone, torch_device, engine="auto")
        self.maker = MapMaker(settings, network, library)
        self.maps = MapStore(work / "maps", self.maker)
        self.features = FeatureStore(work / "features", torch_device, read_clip)
        # as the store has it: features of training and of hidden clips come from the same engine
        self._network = (network if network.name == BACKBONE else OnePass.load(BACKBONE, torch_device)).exact()
        self._trained: dict[tuple[str, str, str], Probe] = {}
        self._shown: dict[tuple[Candidate, str], tuple[dict[str, np.ndarray], float]] = {}

    # what is hidden

    def _shown_as(self, candidate: Candidate, clip: Clip) -> tuple[dict[str, np.ndarray], float]:
        """Features of a clip as a candidate shows it, by extractor, (F, D) float32; and its hidden share."""
        key = (candidate, clip.id)
        if key not in self._shown:
            if self._tell is not None:
                self._tell(f"{candidate}: {clip.id}")
            frames, hidden = self._hidden(candidate, clip)
            names = {PROBES[name].features for names in self.probes.values() for name in names}
            features = {name: extractor_entry(name).compute(frames, self._network) for name in sorted(names)}
            self._shown[key] = (features, hidden)
        return self._shown[key]

    def _hidden(self, candidate: Candidate, clip: Clip) -> tuple[np.ndarray, float]:
        """The clip's frames, (T, H, W, 3) uint8, with the candidate hidden, and the share of pixels that it hides."""
        frames = np.stack(list(frames_of(self.dataset.root / clip.path)))
        span = slice(clip.first, clip.last)
        if not candidate.attributes:
            return frames[span], 0.0
        maps = self.maps.of(clip.path, frames)
        # the same noise for all candidates: they are compared with each other
        seed = int.from_bytes(hashlib.sha256(clip.path.as_posix().encode()).digest()[:7], "big")
        settings = scaled(self.settings, candidate.scale)
        hider = MapHider(maps, candidate.attributes, settings, self.maker.library, seed=seed)
        chunks = list(hider.explain(list(frames)))
        images = np.concatenate([chunk.output.numpy() for chunk in chunks])[span]
        share = np.concatenate([chunk.alpha.numpy() for chunk in chunks])[span].mean()
        return images, float(share)

    # who is asked

    def _probe(self, column: Column, split: str, network: str) -> Probe:
        """Trained on the clean clips that train, and on no others."""
        key = (column.name, split, network)
        if key not in self._trained:
            entry, part = PROBES[network], self.dataset.split(split, column.task)
            labels = self._labels(column, part.train)
            examples = Examples(self.features.of(entry.features, self.dataset, part.train), labels)
            none = Examples(examples.features[:0], labels[:0])
            self._trained[key] = Probe(entry, len(self._classes(column)), examples, none)
        return self._trained[key]

    def _classes(self, column: Column) -> tuple[str, ...]:
        clips = {
            clip
            for split in column.splits
            for part in (self.dataset.split(split, column.task),)
            for clip in (*part.train, *part.validation, *part.test)
        }
        return tuple(sorted({self.dataset.label_of(self.dataset.clip(clip), column.task) for clip in clips}))

    def _labels(self, column: Column, clips: Sequence[str]) -> np.ndarray:
        classes = self._classes(column)
        return np.array([classes.index(self.dataset.label_of(self.dataset.clip(c), column.task)) for c in clips], int)

    # scores

    def tested_by(self, number: int) -> set[str]:
        """Clips that the columns' splits of that number test, as `column/clip`: what it must not choose by."""
        return {
            f"{column.name}/{clip}"
            for column in self.columns
            for clip in self.dataset.split(column.splits[number], column.task).test
        }

    def validate(self, candidate: Candidate, without: Collection[str]) -> Score:
        """On the validation clips of all splits, but for those in `without`.  Raises SettingsError if none is left."""
        asked = [
            [
                (candidate, split, clip)
                for split in column.splits
                for clip in self.dataset.split(split, column.task).validation
                if f"{column.name}/{clip}" not in without
            ]
            for column in self.columns
        ]
        if not all(asked):
            raise SettingsError(f"{self.dataset.name} has no validation clips to choose by: give a split that has some")
        return self._score(asked)

    def test(self, candidates: Sequence[Candidate]) -> Score:
        """Candidate k on the clips that split k tests."""
        return self._score(
            [
                [
                    (candidate, split, clip)
                    for candidate, split in zip(candidates, column.splits, strict=True)
                    for clip in self.dataset.split(split, column.task).test
                ]
                for column in self.columns
            ]
        )

    def _score(self, asked: Sequence[Sequence[tuple[Candidate, str, str]]]) -> Score:
        """asked: for action and privacy who is shown (candidate, clip) to the networks of which split."""
        counted: list[list[Outcomes]] = []
        hidden = []
        for column, trials in zip(self.columns, asked, strict=True):
            by_network = {name: self._outcomes(column, name, trials) for name in self.probes[column.name]}
            best = column.static == "strongest"
            counted.append([by_network[strongest(by_network)]] if best else list(by_network.values()))
            hidden += [self._shown_as(candidate, self.dataset.clip(clip))[1] for candidate, _, clip in trials]
        action, privacy = counted
        weight = self.experiment.weight
        error = trade_off_error(action, privacy, weight)
        a, p = average(action), average(privacy)
        return Score(a, p, trade_off(a, p, weight), error, float(np.mean(hidden)))

    def _outcomes(self, column: Column, network: str, trials: Sequence[tuple[Candidate, str, str]]) -> Outcomes:
        predicted = []
        for candidate, split, name in trials:
            features, _ = self._shown_as(candidate, self.dataset.clip(name))
            scores = self._probe(column, split, network).scores(features[PROBES[network].features][None])
            predicted.append(int(scores.argmax(axis=1)[0]))
        clips = [clip for _, _, clip in trials]
        groups = tuple(self.dataset.clip(clip).group for clip in clips)
        return Outcomes(tuple(clips), groups, self._labels(column, clips), np.array([predicted]))


def _first(experiment: Experiment, *, action: bool) -> Column:
    """The first column of actions, or of a privacy label, that is about clips as a method shows them."""
    for column in experiment.columns:
        if column.is_action == action and column.copies == "{method}":
            return column
    raise SettingsError(f"experiment {experiment.name} has no {'action' if action else 'privacy'} column to choose by")
