"""The folder of a run: what was asked, of which data, with which versions, and the predictions that exist.

    run.json        the experiment, versions, a digest of each copy and the clips of each split: written first
    predictions/    column/network/split/seed/<learned on>--<tested on>.csv
    models/         checkpoints and logs; weights of networks that learned on the source, which later methods need
    features/       features of clips, by content

A run goes on where it is: a prediction file that exists is done.  A changed experiment or copy is refused.  Two
commands may do different networks of one run at the same time: each adds to what `run.json` holds by then.

Not here: training and testing (bench), numbers (summaries).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anonymotion.errors import InputError, OutputError, SettingsError
from anonymotion.research.datasets import Dataset
from anonymotion.research.experiments import SOURCE, Column, Experiment, parse_experiment
from anonymotion.research.layouts.copies import is_copy, read_index
from anonymotion.research.probes import PROBES

RUN_FILE = "run.json"
SCHEMA_VERSION = 1
# Fields that say nothing about what is computed: a run goes on when they are reworded.
_WORDS = ("title", "needs", "takes", "quoted")


@dataclass(frozen=True)
class Job:
    """One network that is trained once, and the methods whose clips it is then tested on."""

    column: str
    network: str
    split: str
    seed: int
    learned_on: str
    tested_on: tuple[str, ...]

    @property
    def place(self) -> Path:
        """Where it is below `predictions` and `models`."""
        return Path(slug(self.column)) / self.network / slug(self.split) / f"seed{self.seed}"

    def file(self, method: str) -> Path:
        """Its predictions for the clips of a method, below `predictions`."""
        return self.place / f"{slug(self.learned_on)}--{slug(method)}.csv"

    def __str__(self) -> str:
        return f"{self.column} / {self.network} / {self.split} / seed {self.seed} / learned on {self.learned_on}"


def slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^a-z0-9.+@]+", "-", name.lower()).strip("-")


def seeds_of(experiment: Experiment, network: str) -> tuple[int, ...]:
    """All seeds; only the first for a probe, which has no randomness."""
    return experiment.seeds[:1] if network in PROBES else experiment.seeds


def plan(experiment: Experiment, networks: Sequence[str] = ()) -> list[Job]:
    """All that has to be trained, cheap and static first; only some networks if they are named."""
    known = {name for column in experiment.columns for name in column.networks}
    for name in networks:
        if name not in known:
            raise SettingsError(f"network {name!r} is not in {experiment.name}: it has {', '.join(sorted(known))}")
    jobs = [
        job
        for column in experiment.columns
        for network in column.networks
        if not networks or network in networks
        for job in _jobs(experiment, column, network)
    ]
    return sorted(jobs, key=lambda job: (job.network not in PROBES, job.learned_on != SOURCE))


def _jobs(experiment: Experiment, column: Column, network: str) -> list[Job]:
    methods = [method.name for method in experiment.rows_of(column)]
    static = tuple(methods) if "static" in experiment.threats else (SOURCE,)
    found = []
    for split in column.splits:
        for seed in seeds_of(experiment, network):
            found.append(Job(column.name, network, split, seed, SOURCE, static))
            if "adapted" in experiment.threats:
                found += [Job(column.name, network, split, seed, name, (name,)) for name in methods if name != SOURCE]
    return found


class RunFolder:
    """One run on the disk; `create` starts it or goes on with it, `open` only reads."""

    def __init__(self, path: Path, experiment: Experiment, document: dict[str, Any]) -> None:
        self.path, self.experiment, self._document = path, experiment, document

    @classmethod
    def create(cls, path: Path, experiment: Experiment) -> RunFolder:
        """A new run, or an old one of the same experiment.  Raises SettingsError if it was another one."""
        if (path / RUN_FILE).exists():
            run = cls.open(path)
            changed = _differences(_decisive(run.experiment.as_json()), _decisive(experiment.as_json()))
            if changed:
                raise SettingsError(
                    f"{path} is a run with another configuration ({', '.join(changed[:3])} differ): give another "
                    "--output, or undo the change"
                )
            run._document["experiment"] = experiment.as_json()
            run.experiment = experiment
        else:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise OutputError(f"{path} is there, but is no run: give another --output")
            run = cls(path, experiment, {"schema_version": SCHEMA_VERSION, "experiment": experiment.as_json()})
            run._document |= {"copies": {}, "splits": {}}
        from anonymotion.results import library_versions

        run._document["versions"] = library_versions()
        run._save()
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run.  Raises InputError if there is none."""
        try:
            document = _read(path)
            return cls(path, parse_experiment(document["experiment"]), document)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no folder of a run ({error}): `bench run` makes one") from error

    @property
    def features(self) -> Path:
        """Folder of features."""
        return self.path / "features"

    @property
    def versions(self) -> dict[str, str]:
        """Of the libraries, when it was last run."""
        found: dict[str, str] = self._document["versions"]
        return found

    def predictions(self, job: Job, method: str) -> Path:
        """The file of a job's predictions for a method's clips."""
        return self.path / "predictions" / job.file(method)

    def model(self, job: Job) -> Path:
        """The folder of a job's training."""
        return self.path / "models" / job.place / slug(job.learned_on)

    def missing(self, job: Job) -> list[str]:
        """Methods that the job has not been tested on yet."""
        return [method for method in job.tested_on if not self.predictions(job, method).exists()]

    def know_copy(self, name: str, dataset: Dataset) -> None:
        """Record what a copy is.  Raises SettingsError if the run was begun with another one of that name."""
        digest = copy_digest(dataset)
        self._reload()
        if self._document["copies"].setdefault(name, digest) != digest:
            raise SettingsError(
                f"the copy {name} is not the one that {self.path} was begun with: give another --output"
            )
        self._save()

    def know_split(self, column: Column, split: str, tested: Sequence[str]) -> None:
        """Record which clips a split tests.  Raises SettingsError if they were others."""
        key = f"{column.task}/{split}"
        self._reload()
        if self._document["splits"].setdefault(key, list(tested)) != list(tested):
            raise SettingsError(f"split {split} of {column.task} tests other clips than when {self.path} was begun")
        self._save()

    def tested(self, column: Column, split: str) -> list[str]:
        """The clips that a split tests: what predictions must be complete for."""
        found: list[str] = self._document["splits"].get(f"{column.task}/{split}", [])
        return found

    def note_speed(self, name: str, value: float) -> None:
        """Keep the seconds per frame that a method took."""
        self._reload()
        self._document.setdefault("seconds_per_frame", {})[name] = value
        self._save()

    @property
    def seconds_per_frame(self) -> dict[str, float]:
        """Method -> seconds, of the copies that say so."""
        found: dict[str, float] = self._document.get("seconds_per_frame", {})
        return found

    def _reload(self) -> None:
        """What another command has written since; its experiment is the same but for words."""
        try:
            self._document |= {**_read(self.path), "experiment": self._document["experiment"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.path} is no folder of a run any more ({error}): run it anew") from error

    def _save(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            partial = self.path / f"{RUN_FILE}.{os.getpid()}.partial"
            partial.write_text(json.dumps(self._document, indent=1) + "\n", encoding="utf-8")
            os.replace(partial, self.path / RUN_FILE)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror}): give another --output") from error


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((path / RUN_FILE).read_text(encoding="utf-8"))
    if document["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {document['schema_version']}")
    return document


def copy_digest(dataset: Dataset) -> str:
    """What a copy is: of an obfuscated one its index, of an original its clips."""
    content: Any = repr(dataset.clips)
    if is_copy(dataset.root):
        index = read_index(dataset.root)
        content = {key: index[key] for key in ("made_with", "clips", "splits")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _decisive(values: dict[str, Any]) -> dict[str, Any]:
    plain = json.loads(json.dumps({key: value for key, value in values.items() if key not in _WORDS}))
    for method in plain["methods"]:
        del method["label"]
    for name in ("workers", "tensorboard"):
        del plain["training"][name]
    return plain  # type: ignore[no-any-return]


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [key for key in new if old.get(key) != new[key]]
