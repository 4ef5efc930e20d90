"""Read and write video: every container, codec and time stamp of the package is here.

`open_source` gives upright RGB frames with their times, `open_sink` writes pictures at those times and
shows the result only when it is whole, `probe` describes a file.  This package is the only place that
imports av, and it does so when a file is opened, not before.

This package does not change pixels.
"""

from anonymotion.video.base import Sink, Source
from anonymotion.video.info import AudioInfo, Frame, VideoInfo
from anonymotion.video.opening import open_sink, open_source, probe

__all__ = ["AudioInfo", "Frame", "Sink", "Source", "VideoInfo", "open_sink", "open_source", "probe"]
