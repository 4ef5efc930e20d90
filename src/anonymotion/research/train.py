"""Train one network: AdamW, patience on the validation loss, resumable after a kill.

A run of `train` is decided by its arguments: order and augmentation of the clips follow from (seed, epoch, clip),
initial weights and dropout from the seed.  A checkpoint is written after every epoch, so a killed run loses at most
one; resumed on the same machine with the same number of threads it continues bit for bit on the CPU (a test shows
it).  Limits: on CUDA some kernels add in any order, and another torch or processor may round otherwise.

Files in the folder: `checkpoint.pt` (tensors and plain values, read with weights_only), `log.csv`, TensorBoard's events
if wanted, and at the end `weights.safetensors` (the epoch of the lowest validation loss) with `training.json`.

Not here: what a network is (networks), clips (loading), which networks are trained on what (runs).
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anonymotion.device import is_out_of_memory
from anonymotion.errors import DeviceError, InputError, MissingDependencyError, SettingsError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG_COLUMNS = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds")
EpochDone = Callable[[int, int, float], None]


class Clips(Protocol):
    """Labelled clips, as `loading.ClipSet` has them."""

    def __len__(self) -> int: ...

    def item(self, index: int, epoch: int) -> tuple[Tensor, int]:
        """The clip, (C, T, H, W) float32, and its label; at training, the augmentation of that epoch."""
        ...


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained.

    learning_rate: of AdamW (> 0).  weight_decay: of AdamW.  batch: clips per step (>= 1).  max_epochs: at most (>= 1).
    patience: epochs without a lower validation loss until it stops (>= 1).
    mixed_precision: bfloat16, or float16 with loss scaling, where CUDA is; no effect on a CPU.
    workers: threads that load clips beside the one that trains (>= 0); no effect on results.
    tensorboard: whether its event files are written beside log.csv.
    """

    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    batch: int = 16
    max_epochs: int = 1000
    patience: int = 100
    mixed_precision: bool = True
    workers: int = 2
    tensorboard: bool = True

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or min(self.batch, self.max_epochs, self.patience) < 1 or self.workers < 0:
            raise SettingsError(
                f"training with {self}: expected a learning rate > 0, batch, epochs and patience >= 1, workers >= 0"
            )


@dataclass
class _State:
    """All that a checkpoint holds beside the network and the optimiser."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    best: dict[str, Tensor] = field(default_factory=dict)


def train(
    build: Callable[[], nn.Module],
    training: Clips,
    validation: Clips,
    settings: TrainSettings,
    *,
    seed: int,
    device: torch.device,
    folder: Path,
    epoch_done: EpochDone | None = None,
) -> nn.Module:
    """Train what `build` makes, or go on where `folder` says that it was; the network of the best epoch.

    validation: may be empty; then the last epoch is taken after `max_epochs`.
    epoch_done: told (epochs done, most that are left, seconds per epoch).
    Raises DeviceError with advice when memory runs out, InputError for a checkpoint of something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked), memory_advice(settings):
        torch.manual_seed(seed)
        network = build().to(device)
        finished = folder / "weights.safetensors"
        if finished.exists():
            _load_state(network, _read_tensors(finished), finished)
            return network.eval()
        run = _Run(network, settings, device, folder)
        while not run.done:
            started = time.perf_counter()
            row = run.epoch(training, validation, seed)
            row["seconds"] = time.perf_counter() - started
            run.save(row)
            if epoch_done is not None:
                epoch_done(run.state.epoch, run.most_left, row["seconds"])
        return run.finish()


class _Run:
    def __init__(self, network: nn.Module, settings: TrainSettings, device: torch.device, folder: Path) -> None:
        self.network, self.settings, self.device, self.folder = network, settings, device, folder
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        half = settings.mixed_precision and device.type == "cuda"
        self._half = (torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16) if half else None
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._half == torch.float16)
        self.state = _State()
        if self._checkpoint.exists():
            self._restore()
        self._board = _tensorboard(folder, self.state.epoch) if settings.tensorboard else None
        _cut_log(self._log, self.state.epoch)

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def _log(self) -> Path:
        return self.folder / "log.csv"

    @property
    def done(self) -> bool:
        return self.most_left == 0

    @property
    def most_left(self) -> int:
        """Epochs until it stops at the latest, if the validation loss does not fall any more."""
        patience = self.settings.patience - (self.state.epoch - self.state.best_epoch)
        return max(0, min(self.settings.max_epochs - self.state.epoch, patience))

    def epoch(self, training: Clips, validation: Clips, seed: int) -> dict[str, float]:
        """Every clip once, then the validation clips; the row of the log."""
        number = self.state.epoch
        order = torch.randperm(len(training), generator=torch.Generator().manual_seed(1_000_003 * seed + number))
        self.network.train()
        loss, accuracy = self._pass(training, order.tolist(), number, learn=True)
        row = {"epoch": number + 1, "train_loss": loss, "train_accuracy": accuracy}
        if len(validation):
            self.network.eval()
            with torch.inference_mode():
                loss, accuracy = self._pass(validation, range(len(validation)), number, learn=False)
            row |= {"validation_loss": loss, "validation_accuracy": accuracy}
        self.state.epoch += 1
        if not len(validation) or loss < self.state.best_loss:
            self.state.best_epoch, self.state.best_loss = self.state.epoch, loss
            self.state.best = {name: tensor.cpu().clone() for name, tensor in self.network.state_dict().items()}
        return row

    def _pass(self, clips: Clips, order: Any, epoch: int, *, learn: bool) -> tuple[float, float]:
        total, right = 0.0, 0
        for pictures, labels in batches(clips, order, epoch, self.settings):
            pictures, labels = pictures.to(self.device), labels.to(self.device)
            if learn and len(labels) == 1 and len(order) > 1:
                continue  # batch normalisation cannot learn from one clip; the next epoch's order is another
            with self._precision():
                scores = self.network(pictures)
                loss = F.cross_entropy(scores.float(), labels)
            if not torch.isfinite(loss):
                raise InputError(f"the loss is {loss.item()} in epoch {epoch + 1}: lower learning_rate and run again")
            if learn:
                self.optimiser.zero_grad(set_to_none=True)
                self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                self._scaler.step(self.optimiser)
                self._scaler.update()
            total += loss.item() * len(labels)
            right += int((scores.argmax(dim=1) == labels).sum())
        return total / len(order), right / len(order)

    def _precision(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._half is None else torch.autocast(self.device.type, dtype=self._half)

    def save(self, row: dict[str, float]) -> None:
        """The checkpoint, then the log: a kill in between loses a line of the log, never an epoch."""
        content = {
            "settings": _kept(self.settings),
            "state": asdict(self.state),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }
        partial = self._checkpoint.with_suffix(".partial")
        torch.save(content, partial)
        os.replace(partial, self._checkpoint)
        with self._log.open("a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, LOG_COLUMNS).writerow({k: f"{v:.6g}" for k, v in row.items()})
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, self.state.epoch)

    def _restore(self) -> None:
        content = _read_checkpoint(self._checkpoint)
        if content.get("settings") != _kept(self.settings):
            raise InputError(f"{self._checkpoint} was made with other settings: use another run folder")
        _load_state(self.network, content["network"], self._checkpoint)
        self.optimiser.load_state_dict(content["optimiser"])
        self._scaler.load_state_dict(content["scaler"])
        self.state = _State(**content["state"])
        torch.set_rng_state(content["random"])
        if content["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(content["random_cuda"], self.device)

    def finish(self) -> nn.Module:
        """Keep the best epoch as safetensors, and drop the checkpoint."""
        from safetensors.torch import save_file

        if self._board is not None:
            self._board.close()
        state = self.state
        summary = {"epochs": state.epoch, "best_epoch": state.best_epoch, "best_loss": state.best_loss}
        (self.folder / "training.json").write_text(json.dumps(summary | asdict(self.settings), indent=2) + "\n")
        partial = self.folder / "weights.partial"
        save_file({name: tensor.contiguous() for name, tensor in state.best.items()}, partial)
        os.replace(partial, self.folder / "weights.safetensors")
        self._checkpoint.unlink(missing_ok=True)
        self.network.load_state_dict(state.best)
        return self.network.eval()


def batches(clips: Clips, order: Any, epoch: int, settings: TrainSettings) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, C, T, H, W) float32 clips and (B,) labels in `order`, loaded ahead by `settings.workers` threads."""
    from concurrent.futures import ThreadPoolExecutor

    places = list(order)
    parts = [places[start : start + settings.batch] for start in range(0, len(places), settings.batch)]
    if not settings.workers:
        yield from (_stack([clips.item(index, epoch) for index in part]) for part in parts)
        return
    with ThreadPoolExecutor(settings.workers) as pool:
        waiting = [[pool.submit(clips.item, index, epoch) for index in part] for part in parts[:2]]
        for following in range(2, len(parts) + 2):
            loaded = _stack([future.result() for future in waiting.pop(0)])
            if following < len(parts):
                waiting.append([pool.submit(clips.item, index, epoch) for index in parts[following]])
            yield loaded
            if not waiting:
                return


def _stack(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    return torch.stack([clip for clip, _ in items]), torch.tensor([label for _, label in items])


def _kept(settings: TrainSettings) -> dict[str, Any]:
    """The settings that decide results."""
    return {name: value for name, value in asdict(settings).items() if name not in ("workers", "tensorboard")}


def _cut_log(path: Path, epochs: int) -> None:
    """Keep the lines of the log that the checkpoint knows of."""
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if int(row["epoch"]) <= epochs]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, LOG_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _tensorboard(folder: Path, epochs: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingDependencyError(
            "tensorboard is not installed: pip install 'anonymotion[research]', or set tensorboard = false"
        ) from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=epochs + 1)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    import pickle  # only for the name of the exception that torch raises

    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: delete it, and the training starts anew") from error
    return content


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged: delete its folder, and the training starts anew") from error


def _load_state(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{path} is of another network: use another run folder") from error


@contextmanager
def memory_advice(settings: TrainSettings) -> Iterator[None]:
    """Raise DeviceError with what to change where memory runs out."""
    try:
        yield
    except BaseException as error:
        if is_out_of_memory(error):
            raise DeviceError(
                f"memory ran out at a batch of {settings.batch}: lower batch in the experiment's [training], or the "
                "network's crop; what is trained already is kept"
            ) from error
        raise
