"""The experiment files that the package comes with: what they name exists, and they run on miniature copies."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniatures import MINIATURES

from anonymotion.research.bench import Places, run_experiment
from anonymotion.research.datasets import open_dataset
from anonymotion.research.experiments import load_experiment
from anonymotion.research.networks import ACTION_NETWORKS, PRIVACY_NETWORKS
from anonymotion.research.obfuscate import make_copies
from anonymotion.research.probes import PROBES
from anonymotion.research.runs import RunFolder, plan
from anonymotion.research.summaries import Summary
from anonymotion.research.tables import FORMATS
from anonymotion.research.variants import RECIPES, make_variants

FILES = sorted((Path(__file__).resolve().parents[1] / "experiments").glob("*.toml"))
PAPER = [file for file in FILES if not file.name.startswith(("weizmann", "folder"))]
TINY = ("seeds=[0]", "pretrained=none", "training.max_epochs=1", "training.batch=4", "training.workers=0")
TINY += ("training.tensorboard=false", "input.frames=4", "input.crop=32", "privacy_frames=2")


def test_there_is_a_file_for_each_table() -> None:
    expected = {f"{name}_table{number}" for name in ("ipn", "kth", "sbu", "weizmann") for number in (1, 2)}
    assert expected <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_experiment_names_what_there_is(file: Path) -> None:
    experiment = load_experiment(file)
    for column in experiment.columns:
        for method in experiment.rows_of(column):
            assert column.copies.format(method=method.name).removesuffix("+neutral").partition("@")[0] in RECIPES
    assert experiment.needs
    assert experiment.takes
    trained = {name for column in experiment.columns for name in column.networks} - PROBES.keys()
    assert len(experiment.seeds) >= 3 or not trained, "probes alone have no randomness"
    assert plan(experiment)


@pytest.mark.parametrize("file", PAPER, ids=lambda file: file.stem)
def test_the_papers_experiments_have_its_networks_and_its_training(file: Path) -> None:
    experiment = load_experiment(file)
    assert experiment.columns[0].networks == ACTION_NETWORKS
    assert experiment.columns[1].networks == PRIVACY_NETWORKS
    assert (experiment.training.learning_rate, experiment.training.patience) == (3e-4, 100)
    assert experiment.privacy_frames == (16 if file.stem.startswith("sbu") else 32)
    assert experiment.pretrained == "hub"
    if file.stem.endswith("2"):
        dagger = [method for method in experiment.methods if "†" in method.label]
        assert {method.only for method in dagger} == {("i3d", "resnet-50")}
        assert [row.label for row in experiment.quoted] == ["BDQ", "ALF", "ELR s=16", "ELR s=32", "ELR s=64"]


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_experiment_runs_end_to_end_on_a_miniature(file: Path, tmp_path: Path) -> None:
    experiment = load_experiment(file, TINY)
    name = experiment.dataset
    root = MINIATURES[name](tmp_path / "data")
    quick = ("x3d-s", "resnet-18") if file in PAPER else ("flow-linear", "small-3d", "small-3d-whole")
    networks = [name for name in quick if any(name in column.networks for column in experiment.columns)]
    copies = None
    if file.stem.endswith("2"):
        copies = tmp_path / "copies"
        (variant,) = make_variants(["pixelate-16"], name)
        make_copies(open_dataset(name, root), {variant.name: copies / variant.name}, [variant])
    done = run_experiment(
        experiment, Places(root, copies, tmp_path / "run"), networks=networks, allow_missing=True, device="cpu"
    )
    assert done.now > 0
    table = Summary(RunFolder.open(tmp_path / "run")).main()
    rows = {row.label: row.cells for row in table.rows}
    assert next(iter(rows.values()))[0].value is not None
    if copies is not None:
        assert rows["pixelate 16×16"][0].value is not None
    for render in FORMATS.values():
        assert experiment.methods[0].label or experiment.methods[0].name in render(table)
