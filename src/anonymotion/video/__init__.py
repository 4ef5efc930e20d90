"""Read and write video: every container, codec and time stamp of the package is here.

`open_source` gives upright RGB frames with their times, `frame_at` the one of a moment, `open_frames` any by its
number, `open_sink` writes pictures at those times and shows the result only when it is whole, `HiddenWriter` writes
hidden pictures with their masks and verifies what was written, `probe` describes a file.  This package is the only
place that imports av, and it does so when a file is opened, not before.

This package does not change pixels.
"""

from anonymotion.video.base import Sink, Source
from anonymotion.video.info import AudioInfo, Frame, VideoInfo
from anonymotion.video.moments import frame_at, image_at, parse_time
from anonymotion.video.opening import open_sink, open_source, probe
from anonymotion.video.seeking import FrameAccess, open_frames
from anonymotion.video.verify import HiddenWriter

__all__ = [
    "AudioInfo",
    "Frame",
    "FrameAccess",
    "HiddenWriter",
    "Sink",
    "Source",
    "VideoInfo",
    "frame_at",
    "image_at",
    "open_frames",
    "open_sink",
    "open_source",
    "parse_time",
    "probe",
]
