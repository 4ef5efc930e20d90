"""What a comparison method declares to the pipeline, and how one is found by its name.

The pipeline stays the same for all of them: saliency, mask, replacement, composite.  A method is another
replacement, and says what it covers when nobody names an attribute.  The registry knows only where it lives.

Not here: any method (baselines; ours is in pipeline and noise), the mixing (compositor).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from anonymotion.errors import WeightsError
from anonymotion.registry import METHODS, PERSON_MASKS

Replacement = Callable[[Tensor, Tensor, bool], Tensor]


@dataclass(frozen=True)
class Method:
    """A comparison method.

    replacement: (frames, alpha, at_native) -> picture.  frames: (T, H, W, 3) uint8.  alpha: (T, H, W) float32
        in [0, 1].  at_native: lengths are pixels of the frame.  picture: (T, H, W, 3) float32 in 0..255.
        Frame t of the picture depends on frame t and its alpha alone.
    weakness: why what it makes is not for release, or None.
    covers: attributes and groups that it covers when none are named; none of them: the whole frame.
    has_scale: whether `at_native` means anything to it.
    """

    replacement: Replacement
    weakness: str | None
    covers: tuple[str, ...] = ()
    has_scale: bool = False


class PersonMask(Protocol):
    """Another source of the person mask than our templates; `fingerprint` is the SHA-256 of its weights."""

    name: str
    fingerprint: str

    def planes(self, frames: Tensor) -> Tensor:
        """(T, H, W, 3) uint8 RGB -> (T, 1, H, W) float32 in [0, 1], from 0.5 where it sees a person."""
        ...


def load_method(name: str) -> Method | None:
    """The comparison method of that name in `METHODS`; None for ours."""
    method: Method | None = _resolve(METHODS[name].home)
    return method


def load_person_mask(name: str, weights: Path | None, device: torch.device) -> PersonMask | None:
    """The person mask of that name in `PERSON_MASKS`, with the weights of a file; None for our templates.

    Raises WeightsError if there is no file, or one of something else.
    """
    build = _resolve(PERSON_MASKS[name].home)
    if build is None:
        return None
    if weights is None:
        raise WeightsError(
            f"the weights of {name} are not in the package: give torchvision's published file for it with "
            "--person-weights, or use --person-mask ours, which needs none"
        )
    source: PersonMask = build(weights, device)
    return source


def _resolve(home: str | None) -> Any:
    """The object at `module:attribute`, imported now."""
    if home is None:
        return None
    module, _, attribute = home.partition(":")
    return getattr(import_module(module), attribute)
