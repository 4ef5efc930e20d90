"""How many frames are in work at a time: as many as pay, and no more than `--max-memory` has room for.

A run holds several chunks at once (scheduler), and what `look_ahead` and `every` hold back; everything in them is as
large as the frames are.  So the largest chunk follows from the size of the frames before any of them is touched.
Where memory runs out nevertheless, what did not fit is done again in halves (`device.in_parts`).

The numbers are estimates, on the safe side: what PyTorch's allocator keeps for later use and what OpenVINO holds inside
is not known exactly.  The same frames and settings always give the same chunks.

Not here: what is done with a chunk (pipeline), what a device has (device).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from anonymotion.device import memory_bytes
from anonymotion.errors import SettingsError
from anonymotion.flow import FlowEstimator
from anonymotion.keyframes import held_back
from anonymotion.matcher import Matcher

# On a CPU more frames at a time do not pay: what a frame needs should stay in the caches.
CHUNK_PIXELS, MAX_CHUNK_FRAMES = 4_000_000, 8
# On a graphics card they do: a kernel for one frame is over before the next one is started.
MAX_CHUNK_FRAMES_CUDA = 32
# What a run takes there without `--max-memory`: other programs may be there too.
CUDA_SHARE = 0.5

# Interpreter, libraries, and the networks of the presets as OpenVINO compiles them; on a graphics card its context.
BASE_BYTES = {"cpu": 1_550_000_000, "cuda": 800_000_000}
# Bytes per pixel that decoders and encoders hold: x264 looks ahead by tens of frames.  They run on the CPU.
CODEC_BYTES = {"cpu": 300, "cuda": 0}

# Chunks alive at a time: one being searched, one waiting, one being covered, one waiting, one in the hands of whoever
# asked for it; one more, of which a part is still held back, and the batch that is being decoded.
_SEARCHED, _COVERED, _DECODED = 3, 3, 2

# Bytes per pixel: a decoded frame; frame, flow, mask and kept mask of what was searched; output, alpha and noise of
# what was covered; what masks and the mixing of pixels need on the way.
_FRAME, _FOUND, _HIDDEN, _WORK = 3, 3 + 8 + 1 + 1, 3 + 4 + 12, 12 + 12
_PLANE = 4  # of saliency, for each attribute

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_memory(size: str | int) -> int:
    """Bytes from `2G`, `1500M`, `2.5 GB` or a number of bytes; units are powers of 1024.  Raises SettingsError."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]?)(?:i?B)?", str(size).strip(), re.IGNORECASE | re.ASCII)
    count = round(float(found[1]) * _UNITS[found[2].upper()]) if found and not isinstance(size, bool) else 0
    if count <= 0:
        raise SettingsError(f"max memory {str(size)[:40]!r} is not a size: give e.g. 2G or 1500M")
    return count


@dataclass(frozen=True)
class Room:
    """The memory that a run may take, and the chunks that fit.

    limit: bytes of the process on a CPU, of the graphics card on CUDA; None: what pays there.
    """

    device: torch.device
    matcher: Matcher
    flow: FlowEstimator | None
    limit: int | None = None

    def needed(self, size_hw: tuple[int, int], frames: int) -> int:
        """About how many bytes a run takes with chunks of so many frames of (H, W)."""
        pixels = size_hw[0] * size_hw[1]
        found = _FOUND + _PLANE * len(self.matcher.attributes)
        per_frame = _SEARCHED * found + _COVERED * (found + _HIDDEN) + _DECODED * _FRAME + _WORK
        held = found * held_back(self.matcher.settings) + CODEC_BYTES[self.device.type]
        stages = frames * self.matcher.working_bytes(size_hw) + self.matcher.kept_bytes(size_hw)
        if self.flow is not None:
            stages += self.flow.working_bytes(size_hw, frames)
        return BASE_BYTES[self.device.type] + pixels * (per_frame * frames + held) + stages

    def frames(self, size_hw: tuple[int, int]) -> int:
        """How many frames of (H, W) to work on at a time.  Raises SettingsError if `limit` has no room for one."""
        if self.device.type == "cpu":
            most, limit = max(1, min(MAX_CHUNK_FRAMES, CHUNK_PIXELS // (size_hw[0] * size_hw[1]))), self.limit
        else:
            most = MAX_CHUNK_FRAMES_CUDA
            limit = self.limit or round(CUDA_SHARE * memory_bytes(self.device))
        fitting = [count for count in range(1, most + 1) if limit is None or self.needed(size_hw, count) <= limit]
        if not fitting and self.limit is not None:
            least = -(-self.needed(size_hw, 1) // 2**20)
            raise SettingsError(
                f"max memory of {self.limit / 2**20:.0f}M is too little: frames of {size_hw[1]}x{size_hw[0]} pixels, "
                f"one at a time, need about {least}M with these settings: give --max-memory {least}M or more, or a "
                "smaller --short-side or --look-ahead, or --every 1"
            )
        return max(fitting, default=1)
