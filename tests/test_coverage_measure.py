"""benchmarks/coverage.py without its instruments: measures on literal masks, regions, marks, tables, shared passes."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TINY, TINY_SETTINGS, moving, patchwork

from anonymotion import Hider, video
from anonymotion.backbone import Backbone
from anonymotion.presets import DEBIASING_MEAN
from anonymotion.registry import ATTRIBUTES, FeatureSpec

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
# Behind everything else: the folder has a coverage.py, which must not stand for the package of that name.
sys.path.append(str(BENCHMARKS))

import instruments  # noqa: E402
from measuring import controls, findings, marks, measures, regions, rows, tables  # noqa: E402
from measuring.masks import ExportedMasks, Runs, SharedBackbone, dilated  # noqa: E402


def mask(*lines: str) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in lines])


def command() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_benchmark", BENCHMARKS / "coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


HALF = mask("##..", "##..", "....", "....")
LEFT = mask("##..", "##..", "##..", "##..")
NONE = mask("....", "....", "....", "....")
ALL = ~NONE


# Measures


def test_recall_is_the_masked_share_of_the_region() -> None:
    assert measures.recall(HALF, LEFT) == 0.5
    assert measures.recall(HALF, HALF) == 1.0
    assert measures.recall(HALF, ~LEFT) == 0.0


@pytest.mark.parametrize("region", [None, NONE])
def test_what_has_no_region_is_not_measured(region: np.ndarray | None) -> None:
    assert math.isnan(measures.recall(HALF, region))


def test_outside_counts_only_pixels_beyond_the_person() -> None:
    assert measures.outside(HALF, LEFT) == 0.0
    assert measures.outside(ALL, LEFT) == 1.0
    assert measures.outside(HALF, ~HALF) == 1.0
    assert math.isnan(measures.outside(HALF, ALL))


def test_excess_is_the_masked_share_of_the_rest_of_the_person() -> None:
    assert measures.excess(LEFT, ALL, HALF) == pytest.approx(4 / 12)
    assert measures.excess(HALF, ALL, HALF) == 0.0
    assert math.isnan(measures.excess(HALF, None, HALF))
    assert math.isnan(measures.excess(HALF, LEFT, LEFT))


def test_points_are_x_and_y() -> None:
    wide = mask("...#", "....")
    assert measures.points_covered(wide, [[3, 0]]) == 1.0
    assert measures.points_covered(wide, [[0, 1], [3, 0]]) == 0.5
    assert math.isnan(measures.points_covered(wide, []))


def test_a_mask_that_moves_with_the_flow_is_steady() -> None:
    before, after = mask("#...", "#..."), mask("..#.", "..#.")
    flow = np.zeros((2, 2, 4), np.float32)
    flow[0] = -2  # what is here now was two pixels to the left
    assert measures.steadiness(after, before, flow) == 1.0
    assert measures.steadiness(after, before, np.zeros_like(flow)) == 0.0
    assert measures.steadiness(mask("###.", "..#."), before, flow) == 0.5


def test_nothing_is_carried_in_from_beyond_the_frame_and_two_empty_masks_are_skipped() -> None:
    flow = np.full((2, 4, 4), 3.0, np.float32)
    assert measures.aligned(ALL, flow).sum() == 1
    assert math.isnan(measures.steadiness(NONE, NONE, flow))


@pytest.mark.parametrize(
    ("lab", "group"),
    [((70, 10, 15), "light"), ((60, 10, 15), "intermediate"), ((55, 12, 18), "tan"), ((45, 12, 18), "brown")],
)
def test_tone_groups(lab: tuple[float, float, float], group: str) -> None:
    assert measures.tone_group(measures.tone_angle(np.array(lab))) == group
    assert measures.tone_group(measures.tone_angle(np.array([20.0, 8.0, 10.0]))) == "dark"


# Regions


def test_a_polygon_covers_the_pixels_between_its_corners() -> None:
    square = np.array([[1, 1], [3, 1], [3, 4], [1, 4]], np.float32)
    np.testing.assert_array_equal(regions.polygon(square, (5, 4)), mask("....", ".##.", ".##.", ".##.", "...."))
    beyond = np.array([[-5, -5], [2, -5], [2, 2], [-5, 2]], np.float32)
    np.testing.assert_array_equal(regions.polygon(beyond, (3, 4)), mask("##..", "##..", "...."))
    assert not regions.polygon(square + 50, (5, 4)).any()


def test_a_polygon_shrinks_about_its_centroid() -> None:
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], np.float32)
    np.testing.assert_array_equal(regions.polygon(square, (4, 4), 0.5), mask("....", ".##.", ".##.", "...."))


def test_a_strip_lies_along_the_limb() -> None:
    strip = regions.strip(np.array([1.0, 2.0]), np.array([5.0, 2.0]), 1.0, (5, 6))
    np.testing.assert_array_equal(strip, mask("......", ".####.", ".####.", "......", "......"))


def test_a_grown_mask_is_a_disc_of_that_radius() -> None:
    point = np.zeros((9, 9), bool)
    point[4, 4] = True
    grown = regions.grow(point, 2)
    assert grown[4, 2]
    assert grown[6, 4]
    assert not grown[4, 1]
    assert not grown[6, 6]
    np.testing.assert_array_equal(regions.grow(point, 0), point)


def empty_findings(size_hw: tuple[int, int], **changes: Any) -> findings.Findings:
    """What the instrument says of a frame with nobody."""
    nobody = np.packbits(np.zeros(size_hw, bool))
    found = {
        "detector_box": np.zeros((0, 4), np.float32),
        "face_points": np.zeros((0, 478, 2), np.float32),
        "face_agreement": np.zeros(0, np.float32),
        "hand_points": np.zeros((0, 21, 2), np.float32),
        "hand_score": np.zeros(0, np.float32),
        "hand_agreement": np.zeros(0, np.float32),
        "pose_points": np.zeros((0, 33, 2), np.float32),
        "pose_visibility": np.zeros((0, 33), np.float32),
        "pose_shift": np.zeros((0, 33), np.float32),
        "pose_person": np.zeros((0, len(nobody)), np.uint8),
        "selfie_sure": nobody,
        "selfie_maybe": nobody,
    }
    return {**found, **changes}


KINDS = (("detector", "box"), ("face", "points"), ("hand", "points"), ("pose", "points"))


def standing(visible: float = 1.0, shift: float = 0.0) -> findings.Findings:
    """A person in a frame of 100x200 pixels: shoulders at 60, hips at 110, one straight arm and leg each."""
    points = np.full((33, 2), 50, np.float32)
    points[:11] = [50, 30]
    points[[11, 13, 15]] = [[65, 60], [85, 60], [98, 60]]
    points[[12, 14, 16]] = [[35, 60], [15, 60], [2, 60]]
    points[[23, 25, 27]] = [[60, 110], [60, 150], [60, 190]]
    points[[24, 26, 28]] = [[40, 110], [40, 150], [40, 190]]
    return empty_findings(
        (200, 100),
        pose_points=points[None],
        pose_visibility=np.full((1, 33), visible, np.float32),
        pose_shift=np.full((1, 33), shift, np.float32),
        pose_person=np.packbits(np.ones((200, 100), bool))[None],
    )


FRAME = np.full((200, 100, 3), 128, np.uint8)


def test_a_sure_pose_gives_torso_arms_and_legs_inside_the_body() -> None:
    read = regions.read_frame(FRAME, standing())
    assert set(read.sure) == {"torso", "arm", "leg", "person"}
    assert read.sure["torso"][85, 50]
    assert not read.sure["torso"][62, 50]
    assert read.sure["arm"][60, 80]
    assert not read.sure["arm"][60, 66]
    assert read.sure["leg"][150, 60]
    assert not read.sure["leg"][150, 50]
    assert (read.allowed["leg"] >= read.sure["leg"]).all()
    assert read.reasons["hand: at a wrist, not found"] == 2


@pytest.mark.parametrize("doubt", [{"visible": 0.5}, {"shift": 20.0}])
def test_an_unsure_pose_is_left_out_and_counted_but_allowed(doubt: dict[str, float]) -> None:
    read = regions.read_frame(FRAME, standing(**doubt))
    assert set(read.sure) == {"person"}
    assert read.reasons["arm: unsure"] == 4
    assert read.reasons["leg: unsure"] == 4
    assert read.reasons["torso: unsure"] == 1
    assert read.allowed["leg"][150, 60]


def test_a_hand_needs_score_and_agreement() -> None:
    ring = [(np.cos(a), np.sin(a)) for a in np.linspace(0, 6, 21)]
    points = (np.array(ring) * 20 + [50, 80]).astype(np.float32)[None]
    for score, agreement, sure in ((0.9, 0.9, True), (0.7, 0.9, False), (0.9, 0.3, False)):
        found = empty_findings(
            (200, 100),
            hand_points=points,
            hand_score=np.array([score], np.float32),
            hand_agreement=np.array([agreement], np.float32),
        )
        read = regions.read_frame(FRAME, found)
        assert ("hand" in read.sure) == sure
        assert read.reasons["hand: unsure"] == (not sure)
        assert read.allowed["hand"][80, 50]


def test_nobody_found_means_neither_outside_nor_excess() -> None:
    read = regions.read_frame(FRAME, empty_findings((200, 100)))
    row = rows.row_of(("clip", 0, "hand", rows.OURS), np.ones((200, 100), bool), read, None, set(), math.nan)
    assert math.isnan(row.recall)
    assert math.isnan(row.outside)
    assert math.isnan(row.excess)
    assert row.masked == 1.0


# Findings, marks, instruments


def test_windows_are_spread_merged_and_contain_marked_frames() -> None:
    assert findings.windows(10, 0, 0) == [range(10)]
    assert findings.windows(100, 2, 4) == [range(23, 27), range(73, 77)]
    assert findings.windows(100, 2, 4, [25, 28, 99]) == [range(23, 30), range(73, 77), range(96, 100)]
    assert findings.windows(5, 2, 4) == [range(5)]


def test_findings_of_batches_are_those_of_the_clip() -> None:
    batch = {"face_frame": np.array([1, 1, 0]), "face_points": np.arange(3), "selfie_sure": np.array([[7], [8]])}
    whole = findings.joined({}, findings.renumbered(batch, np.array([4, 9])))
    whole = findings.joined(whole, findings.renumbered(batch, np.array([2, 3])))
    assert whole["measured"].tolist() == [4, 9, 2, 3]
    found = findings.of_frame(whole, 9)
    assert found["face_points"].tolist() == [0, 1]
    assert found["selfie_sure"].tolist() == [8]
    assert findings.of_frame(whole, 2)["face_points"].tolist() == [2]


def test_arrays_cross_the_boundary_unchanged_and_objects_do_not() -> None:
    arrays = {"frames": patchwork((5, 7))[None], "none": np.zeros((0, 4), np.float32)}
    back = instruments.unpacked(instruments.packed(arrays))
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
    with pytest.raises(TypeError, match="plain arrays"):
        instruments.packed({"bad": np.array([{}], object)})


def fake_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """An instrument `fake` whose complete environment has this Python as its interpreter."""
    instrument = instruments.Instrument("fake", "fake.py", ("fake==1",))
    monkeypatch.setitem(instruments.INSTRUMENTS, "fake", instrument)
    monkeypatch.setattr(instruments, "SCRIPTS", tmp_path)
    (tmp_path / "fake.py").write_text(script)
    python = instruments.python_of(tmp_path / "fake")
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / "fake" / instruments.STAMP).write_text('{"pins": ["fake==1"]}')


def test_an_instrument_is_a_script_between_two_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the script may not import numpy here: the interpreter is a link without the environment's packages
    script = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
    fake_environment(tmp_path, monkeypatch, script)
    arrays = {"x": np.arange(6).reshape(2, 3)}
    np.testing.assert_array_equal(instruments.run_instrument("fake", arrays, tmp_path)["x"], arrays["x"])


@pytest.mark.parametrize(
    ("script", "message"),
    [("raise SystemExit('no model')", "status 1.*\n.*no model"), ("print('hello')", "6 bytes that are no npz")],
)
def test_an_instrument_that_fails_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    fake_environment(tmp_path, monkeypatch, script)
    with pytest.raises(instruments.InstrumentError, match=message):
        instruments.run_instrument("fake", {"x": np.zeros(1)}, tmp_path)


def test_other_pins_make_an_environment_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_environment(tmp_path, monkeypatch, "")
    environment = tmp_path / "fake"
    assert instruments.is_complete(environment, instruments.Instrument("fake", "fake.py", ("fake==1",)))
    assert not instruments.is_complete(environment, instruments.Instrument("fake", "fake.py", ("fake==2",)))
    (environment / instruments.STAMP).unlink()
    assert not instruments.is_complete(environment, instruments.Instrument("fake", "fake.py", ("fake==1",)))


def test_an_instrument_for_older_pythons_says_so(tmp_path: Path) -> None:
    old = instruments.Instrument("old", "old.py", ("old==1",), newest_python=(3, 2))
    with pytest.raises(instruments.InstrumentError, match=r"needs Python 3\.2 or older"):
        instruments.make_environment(old, tmp_path)


def test_exclusions_apply_to_their_clip_and_frames(tmp_path: Path) -> None:
    file = tmp_path / "coverage.toml"
    entry = '[[exclude]]\nclip = "clips/a.mp4"\nfirst = 2\nlast = 4\nmeasures = ["hand", "outside"]\nwhy = "{}"\n'
    file.write_text(entry.format("a chair"))
    exclusions = marks.read_exclusions(file)
    clip = tmp_path / "clips" / "a.mp4"
    assert marks.excluded(exclusions, clip, 2) == {"hand", "outside"}
    assert marks.excluded(exclusions, clip, 5) == set()
    assert marks.excluded(exclusions, tmp_path / "clips" / "ba.mp4", 3) == set()
    file.write_text(entry.format(" "))
    with pytest.raises(marks.MarksError, match="a reason"):
        marks.read_exclusions(file)


def test_what_is_excluded_is_not_measured() -> None:
    full = np.ones((200, 100), bool)
    read = regions.read_frame(FRAME, standing())
    open_row = rows.row_of(("clip", 0, "leg", rows.OURS), full, read, None, set(), math.nan)
    closed = rows.row_of(("clip", 0, "leg", rows.OURS), full, read, None, {"leg", "excess"}, math.nan)
    assert (open_row.recall, open_row.excess) == (1.0, 1.0)
    assert math.isnan(closed.recall)
    assert math.isnan(closed.excess)


def test_hair_is_measured_at_points() -> None:
    covered = np.zeros((200, 100), bool)
    covered[20, 40] = True
    points = marks.Points("clip", 0, hair=[[40, 20], [41, 20]], not_hair=[[40, 60]])
    row = rows.row_of(
        ("clip", 0, "hair", rows.OURS), covered, regions.read_frame(FRAME, standing()), points, set(), 0.5
    )
    assert (row.recall, row.excess, row.steadiness) == (0.5, 0.0, 0.5)


def test_the_marked_points_are_in_order() -> None:
    points = marks.read_points(BENCHMARKS / "points.toml")
    assert len({(point.clip, point.frame) for point in points}) == len(points) >= 60
    assert all(len(point.hair) >= 3 and len(point.not_hair) >= 2 for point in points)
    assert marks.read_exclusions(BENCHMARKS / "coverage.toml")


@pytest.mark.shared
def test_the_marked_points_lie_in_their_frames(shared: Path) -> None:
    for point in marks.read_points(BENCHMARKS / "points.toml"):
        with video.open_source(shared / point.clip) as source:
            width, height = source.info.width, source.info.height
        for x, y in (*point.hair, *point.not_hair):
            assert x < width, point
            assert y < height, point


def test_a_damaged_point_is_named(tmp_path: Path) -> None:
    file = tmp_path / "points.toml"
    file.write_text('[[frame]]\nclip = "c.mp4"\nframe = 3\nhair = [[1, 2.5]]\nnot_hair = []\n')
    with pytest.raises(marks.MarksError, match=r"c\.mp4 frame 3: \[1, 2\.5\]"):
        marks.read_points(file)


# Tables


def some_rows() -> list[rows.Row]:
    values = [("a", 1.0, 0.1), ("a", 0.8, math.nan), ("b", 0.95, 0.3), ("b", math.nan, 0.2)]
    return [rows.Row(clip, i, "eyes", rows.OURS, recall=r, excess=e) for i, (clip, r, e) in enumerate(values)]


def test_a_summary_leaves_out_what_was_not_measured() -> None:
    found = tables.summary(some_rows())
    assert found["frames"] == 3
    assert found["recall"] == pytest.approx(2.75 / 3)
    assert (found["worst_frame"], found["missed_frames"]) == (0.8, 1)
    assert (found["worst_clip_name"], found["worst_clip"]) == ("a", 0.9)
    assert found["excess"] == pytest.approx(0.2)
    assert math.isnan(found["outside"])


def test_goals_are_floors_for_recall_and_ceilings_for_the_rest() -> None:
    found = tables.summary(some_rows())
    assert tables.verdict(found, {"recall": 0.9, "excess": 0.2001}) == "pass"
    assert tables.verdict(found, {"recall": 0.95}) == "fail: recall >= 95 %"
    assert tables.verdict(found, {"excess": 0.1}) == "fail: excess of the person <= 10 %"
    assert tables.verdict(found, {"outside": 0.5}).startswith("fail")
    assert tables.verdict(found, {}) == "no goal"


def test_goals_of_unknown_measures_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "goals.toml"
    file.write_text("[eyes]\nrecal = 0.9\n")
    with pytest.raises(ValueError, match="eyes names recal"):
        tables.read_goals(file)
    assert tables.read_goals(BENCHMARKS / "goals.toml")["eyes"]["oval_excess"] == 0.35


def test_tables_show_every_attribute_and_a_dash_where_nothing_was_measured(tmp_path: Path) -> None:
    text = tables.overall(some_rows(), {"eyes": {"recall": 0.99}})
    assert "| eyes | ours | 2 | 91.7 | 80.0 | 90.0 a | 1 of 3 | - | 20.0 | - | - | fail: recall >= 99 % |" in text
    assert "| b | 1 | 95.0 |" in tables.per_clip(some_rows(), "eyes")
    by_hand = Counter({("a", "hand"): 3, ("a", "arm"): 3, ("b", "hand"): 1})
    text = tables.counts({"a": 5}, {"a": Counter({"hand: unsure": 2})}, by_hand)
    assert "hand: unsure | 2" in text
    assert "a: arm, hand in 3; b: hand in 1." in text
    tables.write_csv(some_rows(), tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text().splitlines()[2] == "a,1,eyes,ours,0.80000,,,,,"


def test_faces_keep_their_person_while_they_move_a_little() -> None:
    people = rows.People()
    boxes = [np.array([x, 0, x + 20, 25], np.float32) for x in (0, 100, 5, 110, 12)]
    assert [people.number(box) for box in boxes] == [0, 1, 0, 1, 0]


# Masks


def test_a_pan_moves_a_window_of_one_size_over_the_picture() -> None:
    picture = patchwork((61, 90))
    frames = list(controls.panned(picture, frames=5, step=4))
    assert {frame.shape for frame in frames} == {(44, 74, 3)}
    np.testing.assert_array_equal(frames[3], picture[12:56, 12:86])


def test_runs_share_passes_and_give_the_masks_of_separate_hiders(tiny: Backbone, tmp_path: Path) -> None:
    frames = moving(patchwork((80, 90), seed=4), 5, (60, 64), (2, 1))
    settings = {**TINY_SETTINGS, "contrast": 0.0, "threshold": 0.2}
    runs = Runs.__new__(Runs)  # without the embedded weights
    runs.names = ["face", "hair"]
    shared_backbone = SharedBackbone(tiny, [FeatureSpec(TINY, 2, "key", 14, 56, DEBIASING_MEAN)])
    runs._hiders = {
        name: Hider([name], network=shared_backbone, device="cpu", **settings)  # type: ignore[arg-type]
        for name in runs.names
    }
    before = shared_backbone.passes
    found = list(runs.masked(frames, keep_saliency=True))
    assert shared_backbone.passes - before == 1, "one chunk, two runs"
    for name in runs.names:
        alone = torch.cat([c.alpha == 1 for c in Hider([name], network=tiny, device="cpu", **settings).explain(frames)])
        for t, frame in enumerate(found):
            np.testing.assert_array_equal(frame.masks[name], alone[t].numpy())
            np.testing.assert_array_equal(runs.at_scale(name, frame.saliency[name], 1.0), frame.masks[name])
            np.testing.assert_array_equal(frame.image, frames[t])
    assert found[0].flow is None
    assert found[1].flow is not None
    assert found[1].flow.shape == (2, 60, 64)


def test_exported_masks_are_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "x" / "face").mkdir(parents=True)
    Image.fromarray(np.array([[255, 254], [0, 255]], np.uint8)).save(tmp_path / "x" / "face" / "000007.png")
    exported = ExportedMasks(tmp_path, ["face"], "dis")
    frames = [np.zeros((2, 2, 3), np.uint8)] * 2
    stream = exported.masked(frames, "x", 7)
    np.testing.assert_array_equal(next(stream).masks["face"], [[True, False], [False, True]])
    with pytest.raises(FileNotFoundError, match=r"hide -a face --export-masks"):
        list(exported.masked(frames, "x", 9))


def test_the_whole_person_is_grown_as_the_pipeline_grows_masks() -> None:
    point = np.zeros((100, 100), bool)
    point[50, 50] = True
    assert dilated(point, 2).sum() == 25
    assert dilated(point, 0).sum() == 1


# The command


def test_windows_on_the_command_line() -> None:
    coverage = command()
    arguments = coverage.parsed(["--clips", "x.mp4", "--out", "o", "--windows", "4x12", "--attributes", "face", "hair"])
    assert arguments.windows == (4, 12)
    assert arguments.attributes == ["face", "hair"]
    assert coverage.parsed(["--clips", "x", "--out", "o"]).windows == (0, 0)
    for wrong in (["--windows", "4by2"], ["--masks", "m", "--sweep"], ["--attributes", "nose"]):
        with pytest.raises(SystemExit):
            coverage.parsed(["--clips", "x", "--out", "o", *wrong])
    assert set(coverage.NAMES) == {"face", "person", *ATTRIBUTES}


def test_exported_masks_of_a_clip_become_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command line to the files, with the instrument's answer given: one person, legs half masked."""
    from PIL import Image

    coverage = command()
    clip, masked = tmp_path / "clips" / "walk", tmp_path / "masks" / "clips" / "walk" / "leg"
    clip.mkdir(parents=True)
    masked.mkdir(parents=True)
    half = np.zeros((200, 100), np.uint8)
    half[:, :50] = 255
    for number, frame in enumerate(moving(patchwork((220, 120)), 3, (200, 100), (1, 0))):
        Image.fromarray(frame).save(clip / f"{number}.png")
        Image.fromarray(half).save(masked / f"{number:06d}.png")
    answer = {name: array[None] if name.startswith("selfie") else array for name, array in standing().items()}
    found: dict[str, np.ndarray] = {}
    for number in range(3):
        index = {f"{kind}_frame": np.zeros(len(answer[f"{kind}_{key}"]), np.int32) for kind, key in KINDS}
        found = findings.joined(found, findings.renumbered({**answer, **index}, np.array([number], np.int32)))
    monkeypatch.setattr(coverage.findings, "find", lambda *_: found)
    arguments = coverage.parsed(
        [
            "--clips",
            str(clip),
            "--out",
            str(tmp_path / "out"),
            "--attributes",
            "leg",
            "--masks",
            str(tmp_path / "masks"),
        ]
    )
    measurement = coverage.Measurement(arguments)
    measurement.run(clip)
    text = coverage.report(measurement, {"leg": {"recall": 0.4, "missed": 0.5}}, tmp_path / "out")
    assert "| leg | ours | 1 | 50.0 | 50.0 | 50.0 clips/walk | 3 of 3 |" in text
    assert "fail: missed frames <= 50 % |" in text
    assert "| leg | whole person | 1 | 100.0 |" in text
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"tables.md", "rows.csv", "summary.json", "worst_leg_recall.png", "worst_leg_excess.png"}
    assert len((tmp_path / "out" / "rows.csv").read_text().splitlines()) == 1 + 3 * 2


def test_json_has_null_for_what_was_not_measured() -> None:
    assert command().without_nan({"a": {"b": math.nan, "c": 1.0}}) == {"a": {"b": None, "c": 1.0}}
