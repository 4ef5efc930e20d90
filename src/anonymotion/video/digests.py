"""Counting and hashing audio packets, so that what was copied can be compared with what arrived.

Not here: copying (audio), the comparison of whole files (streams).
"""

from __future__ import annotations

import hashlib
from typing import Any


class AudioDigest:
    """Packets and bytes of one audio stream: what was copied, to be compared with what arrived."""

    def __init__(self, codec: str, has_header: bool) -> None:
        self.codec, self._has_header = codec, has_header
        self.packets = 0
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """Count one packet."""
        self.packets += 1
        self._hash.update(data)

    def same_as(self, other: AudioDigest) -> bool:
        """Whether the same sound is in both."""
        if self.codec == "aac" and not self._has_header:
            return self.packets == other.packets  # a muxer takes the header off each packet (ADTS)
        if not self.codec.startswith("pcm") and self.packets != other.packets:
            return False  # raw sound may be cut into packets in other places
        return self._hash.digest() == other._hash.digest()


def digest_of(stream: Any) -> AudioDigest:
    """An empty digest for the packets of an av audio stream."""
    context = stream.codec_context
    return AudioDigest(context.name if context is not None else "unknown", bool(context and context.extradata))
