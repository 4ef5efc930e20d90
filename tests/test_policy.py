"""Policies: shapes and spans as pixels and frames, who wins, own masks, and files that are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from synthetic import make_clip
from tiny import TINY_SETTINGS, nine_attributes, patchwork, tiny_library

from anonymotion import Policy, memory
from anonymotion.backbone import Backbone
from anonymotion.chunks import HiddenChunk
from anonymotion.editing import Editor, Regions
from anonymotion.errors import InputError, NothingMatchedError, SettingsError, UnknownAttributeError
from anonymotion.pipeline import Hider
from anonymotion.presets import Settings
from anonymotion.results import HideResult
from anonymotion.run import FileOptions, hide_video
from anonymotion.shapes import Shape, Span

ROOT = Path(__file__).resolve().parents[1]
SIZE = (70, 84)


def drawn(text: str, size_hw: tuple[int, int], *, grow: bool = True) -> list[str]:
    return ["".join(".#"[int(value)] for value in row) for row in Shape.parse(text).pixels(size_hw, grow=grow)]


# Shapes and spans


@pytest.mark.parametrize("grow", [True, False])
def test_a_rectangle_is_half_open(grow: bool) -> None:
    assert drawn("1,1,3,3", (4, 5), grow=grow) == [".....", ".##..", ".##..", "....."]
    assert drawn("-9,-9,1,99", (2, 3), grow=grow) == ["#..", "#.."]


def test_on_the_edge_a_shape_to_hide_grows_and_one_to_spare_shrinks() -> None:
    assert drawn("0.9,1,3.1,2", (3, 5)) == [".....", "####.", "....."]
    assert drawn("0.9,1,3.1,2", (3, 5), grow=False) == [".....", ".##..", "....."]
    assert drawn("1.2,1.2,1.4,1.4", (3, 3)) == ["...", ".#.", "..."]
    assert drawn("1.2,1.2,1.4,1.4", (3, 3), grow=False) == ["...", "...", "..."]


def test_a_polygon() -> None:
    assert drawn("0,0 4,0 0,4", (4, 4)) == ["####", "###.", "##..", "#..."]
    assert drawn("0,0 4,0 0,4", (4, 4), grow=False) == ["###.", "##..", "#...", "...."]
    assert drawn("0,0 0,4 4,0", (4, 4)) == drawn("0,0 4,0 0,4", (4, 4)), "either way round"


def test_what_a_crossing_outline_winds_around_twice_is_hidden_and_not_spared() -> None:
    twice = "0,0 6,0 6,6 0,6 0,0 6,0 6,6 0,6"
    assert all(row == "######" for row in drawn(twice, (6, 6)))
    assert all(row == "......" for row in drawn(twice, (6, 6), grow=False))


def test_percent_is_of_width_and_height() -> None:
    assert drawn("0%,0%,50%,25%", (4, 6)) == ["###...", "......", "......", "......"]
    mask = Shape.parse("20%,0%,70%,100%").pixels((10, 640), grow=True)
    assert mask[0].nonzero()[0][[0, -1]].tolist() == [128, 447]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("1,2,3", "form"), ("1,2 3,4", "form"), ("a,b,c,d", "form"), ("", "form"), ("1,2,3,4 5,6 7,8", "form"),
        ("1,1,1,3", "empty"), ("3,1,1,3", "empty"), ("0,0 1,1 2,2", "area"), ("0%,0,2,2", "mixes"),
        ("nan,0,2,2", "empty"), ("inf,0 2,0 2,2", "number"), ("-5,-5,0,0", "outside"), ("100%,0%,120%,9%", "outside"),
        ("0,0,2,2@", "form"), ("0,0,2,2@00:20-00:10", "empty"),
    ],
)  # fmt: skip
def test_shapes_that_cannot_be(text: str, part: str) -> None:
    with pytest.raises(SettingsError, match=part):
        Shape.parse(text)


def test_a_shape_wholly_outside_the_frame_stops_the_run() -> None:
    with pytest.raises(SettingsError, match=r"90,0,99,9 .*84x70"):
        Shape.parse("90,0,99,9").pixels(SIZE, grow=True)


@pytest.mark.parametrize("text", ["1,1,3,3", "0.5%,1%,30%,3%", "1,2 3,4 5,0@00:10-", "1,1,3,3@00:01.5-1:00:00"])
def test_the_text_form_comes_back(text: str) -> None:
    assert str(Shape.parse(text)) == text


def test_spans() -> None:
    both, late, early = Span.parse("00:10-00:20"), Span.parse("00:10-"), Span.parse("-00:20")
    assert [span.sentence() for span in (both, late, early)] == ["from 00:10 to 00:20", "from 00:10 on", "until 00:20"]
    frames = [(9.0, 10.0), (9.5, 10.5), (10.0, 11.0), (19.5, 20.5), (20.0, 21.0), (15.0, 15.0)]
    as_fractions = [(Fraction(begin), Fraction(end)) for begin, end in frames]
    assert [both.touches(*frame) for frame in as_fractions] == [False, True, True, True, False, True]
    assert [both.holds(*frame) for frame in as_fractions] == [False, False, True, False, False, True]
    for text in ("", "-", "10", "20-10", "10-10", "1-2-3", "a-b"):
        with pytest.raises(SettingsError):
            Span.parse(text)


# What wins

boxes = st.tuples(st.integers(0, 7), st.integers(0, 5), st.integers(1, 9), st.integers(1, 9)).map(
    lambda box: f"{box[0]},{box[1]},{box[0] + box[2]},{box[1] + box[3]}"
)


@settings(max_examples=40)
@given(include=st.lists(boxes, max_size=3), exclude=st.lists(boxes, max_size=3), seed=st.integers(0, 9))
def test_exclude_never_adds_and_include_never_removes(include: list[str], exclude: list[str], seed: int) -> None:
    mask = torch.rand(1, 6, 8, generator=torch.Generator().manual_seed(seed)) > 0.5

    def edited(**parts: Any) -> torch.Tensor:
        return Editor(Policy(**parts)).take(1, (6, 8), None, mask.device).edit(mask)

    assert not (edited(exclude=exclude) & ~mask).any()
    assert not (mask & ~edited(include=include)).any()
    assert torch.equal(edited(include=include, exclude=exclude) & ~edited(include=include), torch.zeros_like(mask))


def test_each_part_of_the_equation() -> None:
    matched = torch.tensor([[[1, 1, 1, 0, 0, 0]]], dtype=torch.bool)
    include = torch.tensor([[[0, 0, 0, 1, 1, 1]]], dtype=torch.bool)
    kept = torch.tensor([[[1, 0, 0, 1, 0, 0]]], dtype=torch.bool)
    exclude = torch.tensor([[[1, 1, 0, 0, 1, 0]]], dtype=torch.bool)
    regions = Regions(include, exclude, kept, torch.tensor([True]))
    assert regions.edit(matched).int().tolist() == [[[0, 0, 1, 0, 0, 1]]]
    assert regions.given_back(matched).kept == pytest.approx((2 / 6,))
    assert regions.given_back(matched).excluded == pytest.approx((2 / 6,)), "what is kept is not counted twice"
    outside = Regions(include, exclude, kept, torch.tensor([False]))
    assert not outside.edit(matched).any()
    assert outside.given_back(matched).outside == (True,)
    assert outside.given_back(matched).kept == (0.0,)


@pytest.fixture
def make(tiny: Backbone, tmp_path: Path) -> Callable[..., Hider]:
    library = tiny_library(tmp_path / "library")

    def hider(attributes: Any = "hair", preset: str = "strict", **options: Any) -> Hider:
        options = {**TINY_SETTINGS, "seed": 3, "device": "cpu", "threshold": 0.3, "contrast": 0.0, **options}
        return Hider(attributes, preset, library=library, network=tiny, **options)

    return hider


def explain(hider: Hider, frames: list[np.ndarray], **options: Any) -> HiddenChunk:
    (chunk,) = hider.explain(frames, **options)
    return chunk


FRAMES = [patchwork(SIZE, seed=1), patchwork(SIZE, seed=2)]


@pytest.mark.parametrize("preset", ["strict", "paper-debiased"])
def test_what_is_kept_wins_over_mask_growth_and_rim(make: Callable[..., Hider], preset: str) -> None:
    plain = explain(make("hair", preset, dilation=5, feather=5), FRAMES)
    kept_planes = explain(make("torso", preset, threshold=0.3), FRAMES).saliency[:, 0] >= 0.3
    hider = make("hair", preset, dilation=5, feather=5, policy=Policy(keep=("torso",)))
    found = explain(hider, FRAMES)
    assert hider.attributes == ("hair",)
    assert found.saliency.shape[1] == 1
    assert (plain.alpha > 0)[kept_planes].any(), "the test needs pixels that both claim"
    assert (found.alpha[kept_planes] == 0).all()
    assert torch.equal(found.output[kept_planes], found.frames[kept_planes])
    if preset == "strict":
        assert torch.equal(found.alpha == 1, (plain.alpha == 1) & ~kept_planes)
    else:
        assert torch.equal(found.alpha, plain.alpha * ~kept_planes)
    assert found.edits is not None
    assert max(found.edits.kept) > 0


def test_an_own_threshold_for_what_is_kept(make: Callable[..., Hider]) -> None:
    loose = explain(make(policy=Policy(keep="torso"), threshold="0.3,torso=0.1"), FRAMES)
    tight = explain(make(policy=Policy(keep="torso"), threshold="0.3,torso=1"), FRAMES)
    assert loose.alpha.sum() < tight.alpha.sum()
    assert torch.equal(tight.alpha, explain(make(), FRAMES).alpha)


def test_shapes_alone_need_no_backbone(make: Callable[..., Hider], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backbone, "load", lambda *_: pytest.fail("a backbone was loaded"))
    hider = Hider(policy=Policy(include="10,20,30,40"), device="cpu", feather=0, **TINY_SETTINGS)
    assert hider.backbone is None
    found = explain(hider, FRAMES)
    expected = torch.zeros(2, *SIZE)
    expected[:, 20:40, 10:30] = 1
    assert torch.equal(found.alpha, expected)
    assert hider.mask_source == {"source": "regions"}
    policy = Policy(include="10,20,30,40", exclude="30,0,84,70")
    soft = explain(Hider(policy=policy, device="cpu", feather=5, **TINY_SETTINGS), FRAMES)
    assert (soft.alpha[:, :, 30:] == 0).all(), "no rim over what is excluded"
    assert 0 < float(soft.alpha[0, 30, 9]) < 1


def test_shapes_with_a_comparison_method_are_all_it_covers(make: Callable[..., Hider]) -> None:
    found = explain(make(None, policy=Policy(include="10,20,30,40"), method="black", feather=0), FRAMES)
    assert int((found.alpha == 1).sum()) == 2 * 400
    whole = explain(make(None, policy=Policy(exclude="10,20,30,40"), method="black"), FRAMES)
    assert int((whole.alpha == 0).sum()) == 2 * 400
    assert int((whole.alpha == 1).sum()) == 2 * (70 * 84 - 400)


def test_a_kept_attribute_leaves_a_group_and_contradicts_its_own_name(tiny: Backbone, tmp_path: Path) -> None:
    library = nine_attributes(tmp_path / "nine")
    assert Policy(attributes="body", keep="hand").asked(library) == ("torso", "arm", "leg")
    for asked, kept in (("hand", "hand"), ("body,hand", "hand"), ("hand,hair", "body"), ("face", "person")):
        with pytest.raises(SettingsError, match="one place only"):
            Policy(attributes=asked, keep=kept).asked(library)
    with pytest.raises(UnknownAttributeError, match="did you mean 'hand'"):
        Hider("hair", policy=Policy(keep="hnad"), device="cpu", library=library, network=tiny, **TINY_SETTINGS)


def test_the_part_that_edits_does_not_depend_on_chunks(
    make: Callable[..., Hider], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy(include="0,0,9,9@-0.05", exclude="40,0,84,70@0.04-", spans="-0.15")
    times = [(0.04 * t, 0.04 * (t + 1)) for t in range(7)]
    frames = [patchwork(SIZE, seed=t) for t in range(7)]
    alphas = []
    for size in (1, 8):
        monkeypatch.setattr(memory, "MAX_CHUNK_FRAMES", size)
        alphas.append(torch.cat([chunk.alpha for chunk in make(policy=policy).explain(frames, times)]))
    assert ((alphas[0] - alphas[1]).abs() > 1e-3).float().mean() < 0.001, "only rounding at a threshold may flip"
    assert [bool((alpha[:9, :9] == 1).all()) for alpha in alphas[0]][:2] == [True, True]
    assert not alphas[0][4:].any()


def test_spans_without_times_are_an_error(make: Callable[..., Hider]) -> None:
    with pytest.raises(SettingsError, match="times"):
        list(make(policy=Policy(spans="00:01-")).hide(FRAMES))
    with pytest.raises(SettingsError, match="as many times"):
        list(make(policy=Policy(spans="00:01-")).hide(FRAMES, [(0, 1)]))


# Files of video

Run = Callable[..., HideResult]


@pytest.fixture
def run(tiny: Backbone, tmp_path: Path) -> Run:
    library = tiny_library(tmp_path / "library")

    def hide(source: Path, output: Path, attributes: Any = "hair", **options: Any) -> HideResult:
        options = {**TINY_SETTINGS, "threshold": 0.3, "contrast": 0.0, **options}
        return hide_video(source, output, attributes, library=library, network=tiny, **options)

    return hide


def masks_in(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def test_spans_with_a_variable_rate(run: Run, tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.15, 0.4, 0.45, 0.5, 0.9]
    clip = make_clip(tmp_path / "clip.mp4", times=times)
    files = FileOptions(masks=tmp_path / "masks", dump=tmp_path / "dump")
    result = run(
        clip, tmp_path / "o.mp4", None, policy=Policy(include="8,8,40,40", spans="00:00.4-00:00.5"), files=files
    )
    hidden = masks_in(tmp_path / "masks").any(axis=(1, 2)).tolist()
    assert hidden[3:5] == [True, True]
    assert hidden[:2] == [False, False]
    assert hidden[5:] == [False, False]
    for path, is_hidden in zip(sorted((tmp_path / "dump").glob("*.npz")), hidden, strict=True):
        frame = np.load(path)
        assert np.array_equal(frame["image"], frame["output"]) == (not is_hidden)
    outside = hidden.count(False)
    assert result.policy["given_back"]["frames_outside_spans"] == outside
    assert f"outside the spans the video is unchanged: {outside} of 7 frames" in result.notes
    assert result.coverage["frames_without_match"] == 0


def test_spans_that_no_frame_lies_in_and_masks_that_are_all_given_back(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3)
    out = tmp_path / "o.mp4"
    with pytest.raises(SettingsError, match="none of the 3 frames lies in the spans 10:00-"):
        run(clip, out, policy=Policy(spans="10:00-"))
    with pytest.raises(NothingMatchedError, match="excluded shapes"):
        run(clip, out, policy=Policy(exclude="0%,0%,100%,100%"))
    assert not out.exists()
    assert run(clip, out, policy=Policy(spans="10:00-"), files=FileOptions(allow_empty=True)).not_for_release


def test_own_masks_round_trip(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=4)
    run(clip, tmp_path / "first.mp4", files=FileOptions(masks=tmp_path / "masks"), feather=0, threshold=0.6)
    result = hide_video(
        clip, tmp_path / "second.mp4", policy=Policy(masks=tmp_path / "masks"), feather=0, **TINY_SETTINGS,
        files=FileOptions(masks=tmp_path / "again"),
    )  # fmt: skip
    assert 0 < masks_in(tmp_path / "masks").mean() < 255
    assert np.array_equal(masks_in(tmp_path / "masks"), masks_in(tmp_path / "again"))
    assert result.backbone["name"] == "none"
    assert result.attributes == ()
    assert result.policy["own_masks"] is True


def write_masks(folder: Path, count: int, size: tuple[int, int] = (96, 64), mode: str = "L") -> Path:
    folder.mkdir()
    for number in range(count):
        grey = np.zeros(size[::-1], np.uint8)
        grey[:20, :20], grey[20:, :20] = 128, 127
        Image.fromarray(grey).convert(mode, dither=0).save(folder / f"{number}.png")  # type: ignore[call-overload]
    return folder


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB"])
def test_masks_of_other_kinds(tmp_path: Path, mode: str) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    policy = Policy(masks=write_masks(tmp_path / "own", 2, mode=mode))
    hide_video(clip, tmp_path / "o.mp4", policy=policy, feather=0, files=FileOptions(masks=tmp_path / "masks"))
    assert np.array_equal(masks_in(tmp_path / "masks")[0] == 255, np.indices((64, 96)).max(axis=0) < 20)


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda own: (own / "1.png").unlink(), "no 000001.png"),
        (lambda own: (own / "2.png").unlink(), "2 pictures for 3 frames"),
        (lambda own: (own / "2.png").rename(own / "3.png"), "no 000002.png"),
        (lambda own: (own / "2.png").rename(own / "last.png"), "'last.png'"),
        (lambda own: (own / "0.png").rename(own / "000001.png"), "two pictures of the number 1"),
        (lambda own: (own / "0002.png").write_bytes((own / "1.png").read_bytes()), "two pictures of the number 2"),
        (lambda own: (own / "3.png").write_bytes((own / "1.png").read_bytes()), "4 pictures for 3 frames"),
        (lambda own: (own / "2.png").write_bytes((own / "2.png").read_bytes()[:60]), "cannot be read"),
        (lambda own: Image.new("L", (64, 96)).save(own / "2.png"), "64x96 pixels, and the upright frame is 96x64"),
        (lambda own: Image.new("RGBA", (96, 64)).save(own / "2.png"), "RGBA"),
        (lambda own: Image.new("I;16", (96, 64)).save(own / "2.png"), "8-bit"),
        (lambda own: [path.unlink() for path in own.iterdir()], "holds no pictures"),
        (lambda own: [path.unlink() for path in own.iterdir()] + [own.rmdir()], "cannot be read"),
    ],
)
def test_masks_that_do_not_fit_stop_the_run(tmp_path: Path, spoil: Callable[[Path], Any], part: str) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3)
    spoil(write_masks(tmp_path / "own", 3))
    with pytest.raises(InputError, match=part):
        hide_video(clip, tmp_path / "o.mp4", policy=Policy(masks=tmp_path / "own"))
    assert not (tmp_path / "o.mp4").exists()


def test_the_count_is_checked_at_the_end_where_it_is_not_promised(tmp_path: Path) -> None:
    write_masks(tmp_path / "own", 3, size=SIZE[::-1])
    hider = Hider(policy=Policy(masks=tmp_path / "own"), device="cpu")
    with pytest.raises(InputError, match="3 pictures for 2 frames"):
        list(hider.hide(FRAMES))
    with pytest.raises(InputError, match="no picture for frame 3"):
        list(hider.hide(FRAMES * 2))


def test_masks_are_not_replaced_by_what_is_written(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    own = write_masks(tmp_path / "own", 2)
    with pytest.raises(SettingsError, match="--masks"):
        hide_video(clip, tmp_path / "o.mp4", policy=Policy(masks=own), files=FileOptions(masks=own, force=True))
    assert len(list(own.iterdir())) == 2


# Policy files


def test_the_example_in_sentences(library: Any) -> None:
    policy = Policy.load(ROOT / "docs" / "clinic.toml")
    assert policy.explain(library) == [
        "Hides person (hair, forehead, eyes, cheek, lips, hand, arm, torso, leg) where they are found.",
        "Hides the rectangle (80%, 5%) to (98%, 20%) of the frame's width and height.",
        "Keeps leg visible: where it matches (thresholds: leg 0.48), nothing is hidden, whatever else matches there.",
        "Leaves the polygon (20, 10) (60, 10) (60, 50) (40, 60) (20, 50) in pixels, from 00:02 to 01:00 visible, "
        "whatever matches there.",
        "Hides only from 00:02 on; frames outside are left as they are, with everybody in them.",
        "Uses preset strict.",
        f"Sets threshold to {policy.effective_settings().threshold} (preset strict: {Settings().threshold}).",
        "Sets dilation to 2 (preset strict: 1.5).",
    ]
    assert "leg" not in (policy.asked(library) or ())


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("schema_version = 2", ["schema_version", "upgrade"]),
        ("schema_version = true", ["schema_version"]),
        ("attributes = ['hair']", ["schema_version", "write schema_version = 1"]),
        ("schema_version = [", ["TOML"]),
        ("schema_version = 1\nattribute = ['hair']", ["attribute", "did you mean 'attributes'"]),
        ("schema_version = 1\nattributes = 'hair'", ["attributes", "list of texts"]),
        ("schema_version = 1\nattributes = []", ["attributes", "list of texts"]),
        ("schema_version = 1\nkeep = [1]", ["keep", "list of texts"]),
        ("schema_version = 1\npreset = 'stritc'", ["stritc", "strict"]),
        ("schema_version = 1\npreset = 3", ["preset", "text"]),
        ("schema_version = 1\nmasks = 3", ["masks", "text"]),
        ("schema_version = 1\nspans = ['00:10']", ["spans 1", "START-END"]),
        ("schema_version = 1\nspans = ['00:20-00:10']", ["spans 1", "empty"]),
        ("schema_version = 1\nfile = 'x'", ["file", "not known"]),
        ("schema_version = 1\nsettings = 3", ["settings", "table"]),
        ("schema_version = 1\n[settings]\nthreshhold = 0.4", ["settings", "threshhold"]),
        ("schema_version = 1\n[settings]\nthreshold = 0", ["settings", "threshold"]),
        ("schema_version = 1\n[settings]\ndilation = 'much'", ["settings", "dilation"]),
        ("schema_version = 1\ninclude = 3", ["include", "list of tables"]),
        ("schema_version = 1\ninclude = [3]", ["include 1", "table"]),
        ("schema_version = 1\n[[include]]\nunit = 'percent'", ["include 1", "rectangle"]),
        ("schema_version = 1\n[[include]]\nrectangle = [1, 2, 3]", ["include 1", "4 numbers"]),
        ("schema_version = 1\n[[include]]\nrectangle = [1, 2, 3, '4']", ["include 1", "4 numbers"]),
        ("schema_version = 1\n[[include]]\nrectangle = [5, 2, 3, 4]", ["include 1", "empty"]),
        ("schema_version = 1\n[[exclude]]\npolygon = [[1, 2], [3, 4]]", ["exclude 1", "at least 3"]),
        ("schema_version = 1\n[[exclude]]\npolygon = 3", ["exclude 1", "polygon"]),
        ("schema_version = 1\n[[exclude]]\nrectangle = [1, 2, 3, 4]\nunits = 'pixels'", ["exclude 1", "'unit'"]),
        ("schema_version = 1\n[[exclude]]\nrectangle = [1, 2, 3, 4]\nunit = 'feet'", ["exclude 1", "unit 'feet'"]),
        ("schema_version = 1\n[[exclude]]\nrectangle = [1, 2, 3, 4]\nunit = 3", ["exclude 1", "unit 3"]),
        ("schema_version = 1\n[[exclude]]\nrectangle = [1, 2, 3, 4]\nspan = 3", ["exclude 1", "span"]),
        ("schema_version = 1\n[[exclude]]\nrectangle = [1, 2, 3, 4]\nspan = '9'", ["exclude 1", "span"]),
        ("schema_version = 1\nattributes = ['hiar']", ["attributes", "did you mean 'hair'"]),
        ("schema_version = 1\nattributes = ['hair']\nkeep = ['hnad']", ["keep", "did you mean 'hand'"]),
        ("schema_version = 1\nattributes = ['hair']\nkeep = ['hair']", ["keep", "one place only"]),
        ("schema_version = 1\n[settings]\nthreshold = '0.5,hiar=0.1'", ["settings", "did you mean 'hair'"]),
    ],
)  # fmt: skip
def test_a_policy_that_is_wrong_is_one_line_with_file_and_key(
    tmp_path: Path, library: Any, content: str, parts: list[str]
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(content)
    with pytest.raises((SettingsError, UnknownAttributeError)) as caught:
        Policy.load(path).explain(library)
    for part in (f"{path}: ", *parts):
        assert part in str(caught.value)
    assert str(caught.value).count(str(path)) == 1


def test_a_policy_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_bytes(b"#" * (1 << 21))
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    for name in ("none.toml", "large.toml", "latin.toml", "nul\0"):
        with pytest.raises(SettingsError, match=r"policy|TOML"):
            Policy.load(tmp_path / name)


def test_parts_of_another_type_are_refused() -> None:
    for parts in ({"keep": 3}, {"include": [(1, 2)]}, {"spans": [3]}, {"attributes": [1]}, {"include": ["x"]}):
        with pytest.raises(SettingsError):
            Policy(**parts)


def test_arguments_count_before_the_policy(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(
        "schema_version = 1\nattributes = ['hair']\nkeep = ['hand']\nmasks = 'own'\n"
        "[settings]\nthreshold = 0.4\ndilation = 2\n"
    )
    policy = Policy.load(path)
    assert policy.masks == tmp_path / "own"
    changed = policy.overridden(attributes="lips", keep=None, include=[], settings={"threshold": "0.7", "layer": None})
    assert changed.attributes == ("lips",)
    assert changed.keep == ("hand",)
    assert changed.settings == {"threshold": "0.7", "dilation": 2}
    assert changed.as_json()["from_arguments"] == ["attributes", "settings.threshold"]
    assert changed.as_json()["file"] == "p.toml"
