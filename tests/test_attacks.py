"""Attacks find what is there to be found, and nothing where nothing is left; chance is what they are held against."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from attack_scenes import SIZE, scene
from scipy import stats

from anonymotion.attacks import recovery, restoration
from anonymotion.attacks.chance import Concealment, Unrelated
from anonymotion.attacks.evidence import Scene, View, core_of, grey, place_crop
from anonymotion.attacks.examine import examine, region_of
from anonymotion.attacks.inverter import imagined, pair_of, train, what_it_sees
from anonymotion.attacks.outline import silhouette_overlap
from anonymotion.attacks.scores import Finding, finding, fitted, ncc, null_range, score, ssim
from anonymotion.errors import SettingsError
from anonymotion.presets import settings_for


def concealment(preset: str = "strict", known: bool = False, **settings: object) -> Concealment:
    return Concealment(settings_for(preset, **settings), Fraction(25), seed_is_known=known)


def view(made_by: Concealment, of: Scene) -> View:
    noise = made_by.noise(of) if made_by.uses_noise else None
    hidden = made_by.hide(of.original, of, noise)
    known = noise[of.reference] if noise is not None and made_by.seed_is_known else None
    return made_by.view(of, hidden, known, Unrelated(1))


# Scores


def pictures(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.uniform(0, 255, SIZE).astype(np.float32), random.uniform(0, 255, SIZE).astype(np.float32)


def test_scores_of_a_picture_with_itself_and_with_another() -> None:
    one, other = pictures(0)
    everywhere = np.ones(SIZE, bool)
    assert ncc(one, one, everywhere) == pytest.approx(1)
    assert ncc(255 - one, one, everywhere) == pytest.approx(-1)
    assert ncc(np.full(SIZE, 7, np.float32), one, everywhere) == 0
    assert abs(ncc(one, other, everywhere)) < 0.05
    assert ssim(one, one, everywhere) == pytest.approx(1)
    assert ssim(one, other, everywhere) < 0.1


def test_ssim_does_not_depend_on_the_brightness_and_contrast_of_an_estimate() -> None:
    one, _ = pictures(1)
    everywhere = np.ones(SIZE, bool)
    assert score(0.3 * one - 40, one, everywhere).ssim == pytest.approx(1, abs=1e-3)
    assert np.allclose(fitted(0.3 * one - 40, one, everywhere), one, atol=0.01)


def test_scores_look_only_at_their_region() -> None:
    one, other = pictures(2)
    region = np.zeros(SIZE, bool)
    region[20:40, 20:40] = True
    mixed = np.where(region, one, other)
    assert ncc(mixed, one, region) == pytest.approx(1)


@pytest.mark.parametrize("count", [50, 200])
def test_the_null_range_holds_a_further_draw_as_often_as_it_says(count: int) -> None:
    random = np.random.default_rng(3)
    draws = random.normal(0.1, 0.3, (2000, count + 1))
    held = [null_range(list(row[:-1])).holds(row[-1]) for row in draws]
    assert 0.98 <= np.mean(held) <= 0.998


def test_the_null_range_is_students_interval_of_prediction() -> None:
    values = list(np.random.default_rng(4).normal(0, 1, 50))
    half = stats.t.ppf(0.995, 49) * np.std(values, ddof=1) * (1 + 1 / 50) ** 0.5
    found = null_range(values)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=1e-3)
    assert (found.high + found.low) / 2 == pytest.approx(np.mean(values))


def test_a_finding_needs_both_scores_to_be_as_chance() -> None:
    chance = [score(*pictures(seed), np.ones(SIZE, bool)) for seed in range(10)]
    one, _ = pictures(99)

    def put(real: object) -> Finding:
        return finding("x", real, chance, tests=17)  # type: ignore[arg-type]

    assert put(chance[0]).inside
    assert not put(score(one, one, np.ones(SIZE, bool))).inside
    assert not put(type(chance[0])(0.0, 0.9)).inside
    assert not put(type(chance[0])(0.9, 0.0)).inside
    assert not put(type(chance[0])(-0.9, 0.0)).inside, "a negative shows as much as a positive"
    joint = put(chance[0]).joint[0]
    assert joint.high - joint.low > put(chance[0]).ncc_range.high - put(chance[0]).ncc_range.low


# Tracks


def test_tracks_follow_a_translation_in_both_directions() -> None:
    of = scene(frames=9, step=2)
    aligned = of.tracks.aligned(grey(of.original))
    middle = (slice(None), slice(20, 60))
    for plane in aligned:
        assert np.abs(plane[middle] - of.truth[middle]).max() < 0.01
    moved = of.tracks.moved(of.original[of.reference])
    for plane, frame in zip(moved, of.original, strict=True):
        assert np.array_equal(plane[middle], frame[middle])


# What each attack can do where it must succeed


def quality(attack: recovery.Attack, seen: View) -> float:
    estimate = attack(seen)
    assert estimate is not None
    assert estimate.shape == SIZE
    assert estimate.dtype == np.float32
    return ncc(estimate, seen.scene.truth, seen.scene.core)


def test_known_noise_inverts_a_blend_and_a_guess_does_not() -> None:
    of = scene(weight=0.85)
    assert quality(recovery.invert_known_noise, view(concealment("paper-debiased", known=True), of)) > 0.99
    guessed = quality(recovery.invert_known_noise, view(concealment("paper-debiased"), of))
    assert guessed < 0.9


def test_noise_that_clips_share_is_estimated_from_other_clips() -> None:
    of = scene(weight=0.85)
    known = view(concealment("paper-debiased", known=True), of)
    assert quality(recovery.invert_shared_noise, known) > 0.7
    assert quality(recovery.invert_shared_noise, known) > quality(recovery.as_it_is, known) + 0.2


def test_averaging_along_the_motion_undoes_iid_noise_and_more_frames_undo_more() -> None:
    seen = view(concealment("paper-debiased", noise="iid"), scene(frames=21, weight=0.85))
    by_count = [quality(lambda v, n=n: recovery.average(v, n), seen) for n in (1, 3, 10, None)]  # type: ignore[misc]
    assert by_count == sorted(by_count)
    assert by_count[-1] > by_count[0] + 0.2


def test_the_temporal_mean_and_median_undo_iid_noise_over_a_still_subject() -> None:
    seen = view(concealment("paper-debiased", noise="iid"), scene(frames=21, weight=0.7, step=0))
    assert quality(recovery.temporal_mean, seen) > 0.9
    assert quality(recovery.temporal_median, seen) > 0.85


@pytest.mark.parametrize("how", [restoration.non_local_means, restoration.total_variation])
def test_denoisers_denoise(how: Callable[[np.ndarray], np.ndarray]) -> None:
    smooth = (128 + 80 * np.sin(np.mgrid[: SIZE[0], : SIZE[1]][1] / 12)).astype(np.float32)
    noisy = smooth + np.random.default_rng(5).normal(0, 25, SIZE).astype(np.float32)
    cleaned = how(noisy)
    assert np.abs(cleaned - smooth).mean() < 0.6 * np.abs(noisy - smooth).mean()


@pytest.mark.parametrize("how", [restoration.wiener, restoration.richardson_lucy])
def test_deconvolution_undoes_a_known_blur(how: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    sharp = restoration.blurred(grey(scene().original[0]), restoration.gaussian(3, 64))
    point = restoration.gaussian(11, 64)
    soft = restoration.blurred(sharp, point)
    inside = np.zeros(SIZE, bool)
    inside[10:-10, 10:-10] = True
    assert 1 - ncc(how(soft, point), sharp, inside) < 0.5 * (1 - ncc(soft, sharp, inside))


def test_the_dictionary_keeps_the_mosaic_and_is_on_its_grid() -> None:
    of = scene()
    seen = view(concealment(method="pixelate-4", at_native=True), of)
    estimate = recovery.dictionary(seen, 4.0)
    cells = estimate.reshape(16, 4, 20, 4).mean((1, 3))
    mosaic = seen.frame.reshape(16, 4, 20, 4).mean((1, 3))
    inside = core_of(of.alpha[of.reference])[2::4, 2::4]
    assert np.corrcoef(cells[inside], mosaic[inside])[0, 1] > 0.9


def test_inpainting_sees_nothing_of_what_is_opaque() -> None:
    of = scene(rim=True)
    swapped = of.original.copy()
    swapped[:, 12:52, 16:64] = of.original[:, 12:52, 16:64][:, :, ::-1]  # as bright in the mean, which is known
    estimates = [recovery.inpaint_from_rim(View(of, frames)) for frames in (of.original, swapped)]
    assert estimates[0] is not None
    assert np.array_equal(estimates[0], estimates[1])
    assert recovery.inpaint_from_rim(View(scene_everywhere(), of.original)) is None


def scene_everywhere() -> Scene:
    of = scene()
    return Scene(of.original, np.ones_like(of.alpha), of.backward, of.tracks, of.frame_hw, of.box, np.ones(SIZE, bool))


def test_the_rim_is_scored_in_the_rim_and_shows_what_is_there() -> None:
    of = scene(rim=True)
    seen = view(concealment(noise_grain=0.0), of)
    region = region_of(recovery.RIM, of)
    assert not (region & (of.alpha[of.reference] == 1)).any()
    estimate = recovery.rim(seen)
    assert estimate is not None
    assert ncc(estimate, of.truth, region) > 0.3
    assert recovery.rim(view(concealment(), scene())) is None


def test_what_leaves_the_mask_is_counted() -> None:
    of = scene(frames=9)
    assert of.uncovered_share == pytest.approx(0, abs=0.25)
    flickering = of.alpha.copy()
    flickering[of.reference + 1] = 0
    again = Scene(of.original, flickering, of.backward, of.tracks, of.frame_hw, of.box, of.core)
    assert again.uncovered_share == 1


# Chance


def test_unrelated_content_lies_under_the_mask_only_and_moves_with_the_scene() -> None:
    of = scene(rim=True, step=2)
    frames = Unrelated(7).under_the_mask(of)
    outside = of.alpha == 0
    assert np.array_equal(frames[outside], of.original[outside])
    assert (frames[~outside] != of.original[~outside]).any(-1).mean() > 0.9
    middle = (slice(20, 44), slice(30, 50))
    assert np.array_equal(frames[2][middle][:, :-2], frames[3][middle][:, 2:])


def test_strict_gives_nothing_back() -> None:
    of = scene(frames=11, rim=True)
    made_by = concealment(noise_grain=0.0)
    found = examine(view(made_by, of), made_by, nulls=12)
    assert found.recovered == []
    assert {entry.attack for entry in found.findings} >= {"known noise", "average of all", "inpainting from the rim"}
    averages = [entry.score.ncc for entry in found.findings if entry.attack.startswith("average of")]
    assert np.abs(averages).max() < 0.2


def test_a_blend_gives_itself_back() -> None:
    of = scene(frames=11, weight=0.8)
    made_by = concealment("paper-debiased", known=True)
    found = examine(view(made_by, of), made_by, nulls=12)
    recovered = {entry.attack for entry in found.recovered}
    assert "known noise" in recovered
    assert "average of all" in recovered
    assert found.left_out == ["rim"]


def test_a_comparison_method_has_no_noise_to_be_known() -> None:
    of = scene()
    made_by = concealment(method="pixelate-4")
    found = examine(view(made_by, of), made_by, nulls=12)
    assert {"known noise", "noise shared by clips"} <= set(found.left_out)
    assert "none (as it is)" in {entry.attack for entry in found.recovered}


def test_the_null_is_hidden_and_encoded_as_the_output_was() -> None:
    of = scene()
    made_by = Concealment(settings_for("strict"), Fraction(25), ".mp4")
    ((before, after, _),) = made_by.by_chance(of, Unrelated(1), 1)
    assert after is not None
    assert after.hidden.shape == before.hidden.shape
    error = np.abs(after.hidden.astype(int) - before.hidden)
    assert 0 < error.mean() < 20


def test_at_another_scale_than_the_papers_the_whole_frame_is_pixelated() -> None:
    """The crop must get the blocks that the frame would have."""
    import torch

    from anonymotion.attacks.evidence import Box
    from anonymotion.baselines.naive import PIXELATE_4

    of = scene()
    canvas = torch.full((7, 448, 448, 3), 128, dtype=torch.uint8)
    canvas[:, 32:96, 48:128] = torch.from_numpy(of.original)
    whole = PIXELATE_4.replacement(canvas, torch.ones(7, 448, 448), False)[:, 32:96, 48:128].round().byte().numpy()
    placed = Scene(of.original, of.alpha, of.backward, of.tracks, (448, 448), Box(48, 32, 128, 96), of.core)
    hidden = concealment(method="pixelate-4").hide(of.original, placed, None)
    assert np.array_equal(hidden[:, of.core], whole[:, of.core])


def test_the_silhouette_is_seen() -> None:
    for grain in (0.0, 6.0):
        made_by = concealment(noise_grain=grain)
        assert silhouette_overlap(view(made_by, scene_smooth()), made_by.settings) > 0.7
    for name in ("blur-weak", "pixelate-4"):
        made_by = concealment(method=name)
        assert 0 <= silhouette_overlap(view(made_by, scene_smooth()), made_by.settings) < 0.5


def scene_smooth() -> Scene:
    of = scene()
    return Scene(np.full_like(of.original, 120), of.alpha, of.backward, of.tracks, of.frame_hw, of.box, of.core)


# The crop


def test_the_crop_is_on_the_grid_of_blocks_around_the_largest_part() -> None:
    alpha = np.zeros((300, 500), np.float32)
    alpha[10:30, 10:30] = 1
    alpha[120:200, 300:390] = 1
    box = place_crop(alpha, alpha > 0)
    assert (box.x0 % 16, box.y0 % 16, box.x1 % 16, box.y1 % 16) == (0, 0, 0, 0)
    assert box.x0 <= 300 - 16
    assert box.x1 >= 390 + 16
    assert box.y0 <= 120 - 16
    assert box.x0 > 30
    assert max(box.x1 - box.x0, box.y1 - box.y0) <= 288


def test_the_core_lies_inside_and_nothing_hidden_is_refused() -> None:
    alpha = np.zeros((300, 500), np.float32)
    alpha[100:200, 100:200] = 1
    core = core_of(alpha)
    assert core.sum() == (100 - 2 * 4) ** 2
    with pytest.raises(SettingsError, match="nothing to attack"):
        place_crop(np.zeros_like(alpha), alpha > 0)


# The network


def test_the_network_learns_to_invert_what_can_be_inverted() -> None:
    of = scene(frames=5, weight=0.5)
    made_by = concealment("paper-debiased", noise="iid")
    pairs = [pair_of(before, frames[of.reference]) for before, _, frames in made_by.by_chance(of, Unrelated(2), 6)]
    network = train(pairs, steps=60)
    seen = view(made_by, of)
    estimate = imagined(network, what_it_sees(seen))
    assert estimate.shape == SIZE
    assert ncc(estimate, of.truth, of.core) > 0.7
