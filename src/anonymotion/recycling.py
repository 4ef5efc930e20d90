"""Large tensors on a CPU in memory that was used before: new memory comes page by page from the operating system.

Planes of a chunk are tens of megabytes, and the C library hands such blocks back at once: at 640x360 a frame cost 2,000
page faults and 5 to 9 ms of processor time.  A block is kept once nothing refers to it any more, for the next tensor of
its size.

Not here: what is in them, how many of them a run may hold (memory), other devices, whose memory torch keeps by itself.
"""

from __future__ import annotations

import threading
import weakref
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEAST_BYTES = 1 << 20
"""Smaller blocks are kept by the C library."""

MOST_KEPT_BYTES = 512 << 20
"""Of blocks that nothing refers to: those of a chunk of 1920x1080 and ten attributes are half of it."""

Block = NDArray[np.uint8]


class _Blocks:
    """Blocks that wait for the next tensor of their size, the newest last."""

    def __init__(self) -> None:
        self._free: list[Block] = []
        # one that the same thread may take again: a block can come back in the middle of anything
        self._lock = threading.RLock()

    def take(self, size: int) -> Block:
        """Memory of `size` bytes, as it was left."""
        with self._lock:
            # the newest first: some of it may still be in a cache
            for number in reversed(range(len(self._free))):
                if self._free[number].nbytes == size:
                    return self._free.pop(number)
        return np.empty(size, np.uint8)

    def give_back(self, block: Block) -> None:
        """Nothing refers to `block` any more."""
        with self._lock:
            self._free.append(block)
            while self._free and sum(each.nbytes for each in self._free) > MOST_KEPT_BYTES:
                del self._free[0]


_BLOCKS = _Blocks()


def empty(*shape: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """As `torch.empty`, on a CPU with recycled memory where it is large."""
    size = prod(shape) * dtype.itemsize
    if size < LEAST_BYTES or (device is not None and device.type != "cpu"):
        return torch.empty(*shape, dtype=dtype, device=device)
    block = _BLOCKS.take(size)
    # torch holds on to this view as long as any tensor needs the memory
    lent = block[:]
    weakref.finalize(lent, _BLOCKS.give_back, block).atexit = False
    return torch.from_numpy(lent).view(dtype).view(shape)
