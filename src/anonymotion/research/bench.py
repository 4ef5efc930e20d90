"""Run an experiment: train what is missing, write predictions; running it twice goes on where it was.

Not here: the folder (runs), one training (train), tables (summaries).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from anonymotion.device import choose_device
from anonymotion.errors import DatasetError, SettingsError
from anonymotion.research.clips import read_clip
from anonymotion.research.datasets import Dataset, Split, open_dataset
from anonymotion.research.experiments import SOURCE, Column, Experiment
from anonymotion.research.features import FeatureStore
from anonymotion.research.layouts.copies import INDEX, is_copy, read_index
from anonymotion.research.loading import ClipCache, ClipSet
from anonymotion.research.networks import NETWORKS, NetworkEntry, build, network_entry
from anonymotion.research.predict import Predictions, write_predictions
from anonymotion.research.probes import PROBES, Examples, Probe
from anonymotion.research.runs import Job, RunFolder, plan
from anonymotion.research.train import batches, memory_advice, train

if TYPE_CHECKING:
    from torch import nn

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pyth")
# Told before each job and each epoch: (jobs done, jobs in all, what is being done).
JobProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Done:
    """What a call of `run_experiment` did: jobs trained now, jobs there already, copies that were not there."""

    now: int
    before: int
    absent: tuple[str, ...]
    features: int


@dataclass(frozen=True)
class Places:
    """Where things are: the data set itself, and a folder with a copy per method (below the copy's name)."""

    root: Path
    copies: Path | None = None
    output: Path = Path("run")


def run_experiment(
    experiment: Experiment,
    places: Places,
    *,
    networks: Sequence[str] = (),
    allow_missing: bool = False,
    device: str = "auto",
    progress: JobProgress | None = None,
) -> Done:
    """Do all of an experiment that is not done yet, or only some of its `networks`.

    allow_missing: leave out methods whose copies are not there (they stay open); otherwise that is a DatasetError
        before anything is computed.
    Raises SettingsError for an old run folder of another configuration.
    """
    return _Bench(experiment, places, device, progress).run(networks, allow_missing)


class _Bench:
    def __init__(self, experiment: Experiment, places: Places, device: str, progress: JobProgress | None) -> None:
        self.experiment, self.places, self.progress = experiment, places, progress
        self.device = choose_device(device).device
        self.folder = RunFolder.create(places.output, experiment)
        self.store = FeatureStore(self.folder.features, self.device, read_clip)
        self._datasets: dict[str, Dataset] = {}
        self.cache = ClipCache()

    def run(self, networks: Sequence[str], allow_missing: bool) -> Done:
        jobs = plan(self.experiment, networks)
        self.store.together = tuple({PROBES[job.network].features: None for job in jobs if job.network in PROBES})
        absent = self._absent(jobs)
        if absent and not allow_missing:
            where = self.places.copies or "(no --copies given)"
            raise DatasetError(
                f"no finished copy (with its {INDEX}) of {', '.join(absent[:4])} in {where}: make them with "
                "`anonymotion data obfuscate`, or leave them out for now with --allow-missing"
            )
        for column in self.experiment.columns:
            for split in column.splits:
                self.folder.know_split(column, split, self._split(column, split).test)
        now = before = 0
        for number, job in enumerate(jobs):
            column = self.experiment.column(job.column)
            wanted = [name for name in self.folder.missing(job) if self._copy(column, name) not in absent]
            if not wanted or self._copy(column, job.learned_on) in absent:
                before += not self.folder.missing(job)
                continue
            self._tell(number, len(jobs), str(job))
            self._do(job, column, wanted, number, len(jobs))
            now += 1
        self._tell(len(jobs), len(jobs), "done")
        return Done(now, before, tuple(absent), self.store.computed)

    def _tell(self, done: int, total: int, what: str) -> None:
        if self.progress is not None:
            self.progress(done, total, what)

    # data

    def _copy(self, column: Column, method: str) -> str:
        return column.copies.format(method=method)

    def _absent(self, jobs: Sequence[Job]) -> list[str]:
        needed = {
            self._copy(self.experiment.column(job.column), method)
            for job in jobs
            for method in (job.learned_on, *job.tested_on)
        }
        return sorted(name for name in needed if self._root(name) is None)

    def _root(self, copy: str) -> Path | None:
        if copy == SOURCE:
            return self.places.root
        root = self.places.copies / copy if self.places.copies is not None else None
        if root is None or not is_copy(root):
            return None  # without an index nobody knows what it is, nor whether all of it is there
        index = read_index(root)
        return root if index["finished"] and not index["failed"] else None

    def _dataset(self, copy: str) -> Dataset:
        if copy not in self._datasets:
            root = self._root(copy)
            assert root is not None, copy  # noqa: S101 - `run` left those out
            dataset = open_dataset(self.experiment.dataset, root)
            self.folder.know_copy(copy, dataset)
            self._datasets[copy] = dataset
        return self._datasets[copy]

    def _split(self, column: Column, split: str) -> Split:
        """Of the data set itself: a copy must not bring clips of its own into train or test."""
        return self._dataset(SOURCE).split(split, column.task)

    def _labels(self, dataset: Dataset, column: Column, clips: Sequence[str]) -> np.ndarray:
        classes = self._classes(column)
        return np.array([classes.index(dataset.label_of(dataset.clip(clip), column.task)) for clip in clips], int)

    def _classes(self, column: Column) -> tuple[str, ...]:
        """Those that the splits of a column know: windows and whole clips may have others in one data set."""
        source = self._dataset(SOURCE)
        clips = {
            clip
            for name in column.splits
            for part in (source.split(name, column.task),)
            for clip in (*part.train, *part.validation, *part.test)
        }
        return tuple(sorted({source.label_of(source.clip(clip), column.task) for clip in clips}))

    # one job

    def _do(self, job: Job, column: Column, wanted: Sequence[str], number: int, total: int) -> None:
        split = self._split(column, job.split)
        self._check(job, column, split)
        if job.network in PROBES:
            score = self._learn_probe(job, column, split)
        else:
            score = self._train(job, column, split, lambda text: self._tell(number, total, f"{job}: {text}"))
        source = self._dataset(SOURCE)
        groups = tuple(source.clip(clip).group for clip in split.test)
        labels = self._labels(source, column, split.test)
        for method in wanted:
            scores = score(method)
            found = Predictions(split.test, groups, labels, scores, self._classes(column))
            write_predictions(found, self.folder.predictions(job, method))
        if job.learned_on != SOURCE:
            # nothing but its own method is tested on it, and that is done
            shutil.rmtree(self.folder.model(job), ignore_errors=True)

    def _check(self, job: Job, column: Column, split: Split) -> None:
        """Every class that is tested must have been seen in training."""
        source = self._dataset(SOURCE)
        seen = set(self._labels(source, column, split.train).tolist())
        unseen = [name for place, name in enumerate(self._classes(column)) if place not in seen]
        if unseen or not split.test:
            raise SettingsError(
                f"split {job.split} of {column.task} has "
                f"{'no training clip of ' + unseen[0] if unseen else 'no clip to test'}: check the data set"
            )

    def _learn_probe(self, job: Job, column: Column, split: Split) -> Callable[[str], np.ndarray]:
        entry = PROBES[job.network]
        learned_on = self._dataset(self._copy(column, job.learned_on))

        def examples(clips: Sequence[str]) -> Examples:
            features = self.store.of(entry.features, learned_on, clips) if clips else np.zeros((0, 1, 1), np.float32)
            return Examples(features, self._labels(learned_on, column, clips))

        probe = Probe(entry, len(self._classes(column)), examples(split.train), examples(split.validation))
        return lambda method: probe.scores(
            self.store.of(entry.features, self._dataset(self._copy(column, method)), split.test)
        )

    def _train(
        self, job: Job, column: Column, split: Split, tell: Callable[[str], None]
    ) -> Callable[[str], np.ndarray]:
        entry = self._entry(job.network, column)
        settings, classes = self.experiment.training, len(self._classes(column))
        learned_on = self._copy(column, job.learned_on)
        network = train(
            partial(build, entry, classes, self._pretrained(job.network), input_size=(entry.frames, entry.crop)),
            self._set(entry, column, learned_on, split.train, job.seed, training=True),
            self._set(entry, column, learned_on, split.validation, job.seed, training=False),
            settings,
            seed=job.seed,
            device=self.device,
            folder=self.folder.model(job),
            epoch_done=lambda epoch, left, seconds: tell(f"epoch {epoch}, at most {left} more of {seconds:.1f} s"),
        )
        return lambda method: self._scores(
            network, self._set(entry, column, self._copy(column, method), split.test, job.seed, training=False)
        )

    def _entry(self, name: str, column: Column) -> NetworkEntry:
        from dataclasses import replace

        size = self.experiment.input
        entry = network_entry(name)
        changes = {key: value for key in ("frames", "stride", "crop") if (value := getattr(size, key))}
        if NETWORKS[name].family == "torchvision":
            changes = {key: value for key, value in changes.items() if key == "crop"}
        return replace(entry, **changes)

    def _set(
        self, entry: NetworkEntry, column: Column, copy: str, clips: Sequence[str], seed: int, *, training: bool
    ) -> ClipSet:
        dataset = self._dataset(copy)
        labels = self._labels(dataset, column, clips).tolist()
        return ClipSet(
            dataset,
            clips,
            labels,
            entry,
            seed=seed,
            training=training,
            privacy_frames=self.experiment.privacy_frames,
            flip=self.experiment.input.flip,
            cache=self.cache,
        )

    def _scores(self, network: nn.Module, clips: ClipSet) -> np.ndarray:
        found = []
        with torch.inference_mode(), memory_advice(self.experiment.training):
            for pictures, _ in batches(clips, range(len(clips)), 0, self.experiment.training):
                found.append(torch.log_softmax(network(pictures.to(self.device)).float(), dim=1).cpu())
        scores: np.ndarray = torch.cat(found).double().numpy()
        return scores

    def _pretrained(self, network: str) -> str | Path | None:
        wanted = self.experiment.pretrained
        if wanted == "none" or NETWORKS[network].family == "small":
            return None
        if wanted == "hub":
            return "hub"
        # a two-stream network starts both of its streams from the weights of the one-stream network
        names = (network, network.removeprefix("e2s-"))
        files = [Path(wanted) / f"{name}{suffix}" for name in names for suffix in WEIGHT_SUFFIXES]
        for file in files:
            if file.is_file():
                return file
        raise SettingsError(f"no {files[0].name} (or .pth, .pyth) in {wanted}: put it there, or set pretrained to none")
