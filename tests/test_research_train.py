"""Training: it learns, stops, keeps the best epoch, and goes on bit for bit after a kill."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from anonymotion.errors import DeviceError, InputError, SettingsError
from anonymotion.research.train import TrainSettings, batches, train

SETTINGS = TrainSettings(learning_rate=1e-2, batch=4, max_epochs=6, patience=50, workers=0, tensorboard=False)
CPU = torch.device("cpu")


class Stripes:
    """Clips of noise whose mean says their class; `noisy` adds augmentation that depends on the epoch."""

    def __init__(self, count: int, first: int = 0, fail_at: tuple[int, int] | None = None) -> None:
        self.count, self.first, self.fail_at = count, first, fail_at

    def __len__(self) -> int:
        return self.count

    def item(self, index: int, epoch: int) -> tuple[Tensor, int]:
        if self.fail_at == (epoch, index):
            raise KeyboardInterrupt
        generator = torch.Generator().manual_seed(1000 * epoch + index + self.first)
        label = index % 2
        return torch.randn(3, 2, 4, 4, generator=generator) + label, label


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(96, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))


def run(folder: Path, settings: TrainSettings = SETTINGS, seed: int = 0, **changes: object) -> nn.Module:
    sets = {"training": Stripes(12), "validation": Stripes(4, first=500), **changes}
    return train(network, sets["training"], sets["validation"], settings, seed=seed, device=CPU, folder=folder)  # type: ignore[arg-type]


def states(one: nn.Module) -> list[Tensor]:
    return list(one.state_dict().values())


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(states(one), states(other), strict=True))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_it_learns_and_leaves_weights_and_a_log(tmp_path: Path) -> None:
    run(tmp_path, replace(SETTINGS, max_epochs=20))
    log = rows(tmp_path)
    assert [int(row["epoch"]) for row in log] == list(range(1, 21))
    assert float(log[-1]["validation_loss"]) < float(log[0]["validation_loss"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "training.json", "weights.safetensors"]
    summary = json.loads((tmp_path / "training.json").read_text())
    losses = [float(row["validation_loss"]) for row in log]
    assert summary["best_epoch"] == losses.index(min(losses)) + 1


def test_seeds_decide_and_global_randomness_is_untouched(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    one, again, other = (run(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert same(one, again)
    assert not same(one, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("epoch", [1, 4])
def test_after_a_kill_it_goes_on_bit_for_bit(tmp_path: Path, epoch: int) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", training=Stripes(12, fail_at=(epoch, 7)))
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    assert same(run(tmp_path / "killed"), whole)
    kept = [{k: v for k, v in row.items() if k != "seconds"} for row in rows(tmp_path / "killed")]
    assert kept == [{k: v for k, v in row.items() if k != "seconds"} for row in rows(tmp_path / "whole")]


def test_a_finished_training_is_read_not_repeated(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert same(run(tmp_path, training=Stripes(12, fail_at=(0, 0))), first)


def test_patience_stops_it_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    class Opposite(Stripes):
        """What is learned is wrong here: the first epoch stays the best."""

        def item(self, index: int, epoch: int) -> tuple[Tensor, int]:
            clip, label = super().item(index, 0)
            return clip, 1 - label

    run(tmp_path, replace(SETTINGS, max_epochs=40, patience=3, learning_rate=3e-2), validation=Opposite(8))
    best = json.loads((tmp_path / "training.json").read_text())
    assert best["epochs"] == best["best_epoch"] + 3 < 40


def test_without_validation_clips_the_last_epoch_is_taken(tmp_path: Path) -> None:
    run(tmp_path, validation=Stripes(0))
    summary = json.loads((tmp_path / "training.json").read_text())
    assert summary["best_epoch"] == summary["epochs"] == SETTINGS.max_epochs
    assert rows(tmp_path)[0]["validation_loss"] == ""


def test_other_settings_or_a_damaged_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, training=Stripes(12, fail_at=(2, 0)))
    with pytest.raises(InputError, match="other settings"):
        run(tmp_path, replace(SETTINGS, batch=3))
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(InputError, match="damaged: delete it"):
        run(tmp_path)


def test_a_checkpoint_holds_nothing_that_could_run(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, training=Stripes(12, fail_at=(2, 0)))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]["epoch"] == 2


def test_out_of_memory_is_one_line_of_advice(tmp_path: Path) -> None:
    class Huge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, clips: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB")

    with pytest.raises(DeviceError, match="batch of 4: lower batch") as caught:
        train(Huge, Stripes(4), Stripes(0), SETTINGS, seed=0, device=CPU, folder=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_stops_it(tmp_path: Path) -> None:
    class Blind(Stripes):
        def item(self, index: int, epoch: int) -> tuple[Tensor, int]:
            return torch.full((3, 2, 4, 4), float("nan")), index % 2

    with pytest.raises(InputError, match="lower learning_rate"):
        run(tmp_path, training=Blind(8))


@pytest.mark.parametrize("changes", [{"batch": 0}, {"patience": 0}, {"learning_rate": 0.0}, {"workers": -1}])
def test_impossible_settings_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="expected a learning rate"):
        replace(SETTINGS, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_batches_hold_every_clip_once_in_order(workers: int, count: int) -> None:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    found = list(batches(Stripes(count), order, 0, replace(SETTINGS, workers=workers)))
    assert [label for _, labels in found for label in labels.tolist()] == [index % 2 for index in order]
    assert [len(labels) for _, labels in found] == [4] * (count // 4) + ([count % 4] if count % 4 else [])


@pytest.mark.slow
def test_tensorboard_is_written_where_wanted(tmp_path: Path) -> None:
    run(tmp_path, replace(SETTINGS, tensorboard=True, max_epochs=2))
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


@pytest.mark.gpu
def test_mixed_precision_trains_on_cuda(tmp_path: Path) -> None:
    made: Callable[[], nn.Module] = network
    found = train(made, Stripes(12), Stripes(4), SETTINGS, seed=0, device=torch.device("cuda"), folder=tmp_path)
    assert all(torch.isfinite(value).all() for value in states(found) if value.is_floating_point())
