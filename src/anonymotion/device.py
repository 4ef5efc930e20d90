"""Choose the device once, and say why.

Not here: moving tensors (each stage does so for itself), memory limits, precision of single stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anonymotion.errors import DeviceError, SettingsError

if TYPE_CHECKING:
    import torch

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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out; torch and OpenCV have errors of their own for the main memory."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, of a graphics card
        or (isinstance(error, RuntimeError) and "can't allocate memory" in text)
        or "OutOfMemoryError" in text  # OpenCV's
    )


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
