"""Choose the device once, and say why.

Frames go to the device once per chunk (`sent`) and come back once (`fetched`), through memory that a graphics card can
read and write by itself.

Not here: what stages move besides (each for itself), how much memory a run takes (memory), precision of single
stages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from anonymotion.errors import DeviceError, SettingsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Whole = TypeVar("Whole")
Result = TypeVar("Result")

DEVICE_CHOICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class DeviceChoice:
    """A torch device, and the sentence that explains the choice to a user."""

    device: torch.device
    reason: str

    @property
    def name(self) -> str:
        """`cpu`, or the name of the graphics card."""
        import torch

        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


# What torch says of the main memory, of pinned memory, and what CUDA's libraries say.
_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out; torch and OpenCV have errors of their own for the main memory."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, of a graphics card
        or (isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY))
        or "OutOfMemoryError" in text  # OpenCV's
    )


def in_parts(
    whole: Whole, work: Callable[[Whole], Result], halves: Callable[[Whole], Sequence[Whole]]
) -> Iterator[Result]:
    """`work(whole)`, or where memory runs out that of its halves one after the other, down to what has none.

    `work` must leave everything as it was if it fails.  Raises what it raises where nothing can be divided any more.
    """
    waiting = [whole]
    while waiting:
        part = waiting.pop()
        try:
            result: Any = work(part)
        except Exception as error:
            smaller = halves(part) if is_out_of_memory(error) else ()
            if not smaller:
                raise
        else:
            yield result
            continue
        # not in the handler: while it runs, the exception keeps alive what filled the memory
        waiting += reversed(smaller)


def memory_bytes(device: torch.device) -> float:
    """All memory of the device; infinite where the system does not say."""
    import torch

    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")


def sent(frames: Sequence[Tensor], device: torch.device) -> Tensor:
    """All of the tensors in one, on `device`, which is not waited for."""
    import torch

    if device.type == "cpu" or frames[0].device.type != "cpu":
        return torch.stack(list(frames)).to(device)
    staged = torch.empty(len(frames), *frames[0].shape, dtype=frames[0].dtype, pin_memory=True)
    return torch.stack(list(frames), out=staged).to(device, non_blocking=True)


def fetched(*tensors: Tensor) -> list[Tensor]:
    """The same on the CPU, waited for once; what is there already is not copied."""
    import torch

    if tensors[0].device.type == "cpu":
        return list(tensors)
    copies = [
        torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
        for tensor in tensors
    ]
    # not the whole device: other threads have given it work for the next chunks
    torch.cuda.current_stream(tensors[0].device).record_event().synchronize()
    return copies


def choose_device(request: str = "auto") -> DeviceChoice:
    """Return the device for `request`, one of `auto`, `cpu`, `cuda`.

    Raises SettingsError for another word, and DeviceError for `cuda` on a machine without a usable one:
    a silent fall-back would cost a user hours.
    """
    import torch

    if request not in DEVICE_CHOICES:
        raise SettingsError(f"device {request!r} is not known: use one of {', '.join(DEVICE_CHOICES)}")
    if request == "cpu":
        return DeviceChoice(torch.device("cpu"), "cpu was asked for")
    if torch.cuda.is_available():
        return DeviceChoice(torch.device("cuda", torch.cuda.current_device()), "a CUDA device is available")
    if request == "cuda":
        built = torch.version.cuda
        why = "this torch build has no CUDA support" if built is None else "torch finds no CUDA device or driver"
        raise DeviceError(f"device cuda was asked for, but {why}: use --device cpu, or run `anonymotion doctor`")
    return DeviceChoice(torch.device("cpu"), "no CUDA device was found")
