"""Eq. 1 and 2 against plain loops, and the laws of aggregation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny import TINY
from torch import Tensor

from anonymotion.backbone import Backbone, PatchFeatures
from anonymotion.errors import FeatureSpecMismatch, SettingsError, WeightsError
from anonymotion.patch_grid import PatchGrid
from anonymotion.probe import Probe
from anonymotion.registry import AGGREGATIONS, FeatureSpec
from anonymotion.saliency import (
    OPERATIONS,
    aggregate,
    attribute_saliency,
    evidence_share,
    patch_saliency,
    saliency_planes,
    upsample,
)
from anonymotion.template_bank import Rivals, TemplateBank, build_bank
from anonymotion.templates import TemplateLibrary

SPEC = FeatureSpec(short_side=56)
WIDTH = 8
PLANES = hnp.arrays(
    np.float32, st.tuples(st.just(1), st.integers(1, 5), st.just(3)), elements=st.floats(0, 1, width=32)
).map(torch.from_numpy)


def grid(image: tuple[int, int] = (56, 70), input_hw: tuple[int, int] = (56, 70), stride: int = 14) -> PatchGrid:
    return PatchGrid(image, input_hw, 14, stride)


def features(seed: int = 0, count: int = 2, spec: FeatureSpec = SPEC) -> PatchFeatures:
    generator = torch.Generator().manual_seed(seed)
    return PatchFeatures(torch.randn(count, 4, 5, WIDTH, generator=generator), spec, grid())


def bank(index: list[int], attributes: tuple[str, ...], seed: int = 1, mean: bool = False) -> TemplateBank:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(len(index), WIDTH, generator=generator)
    offset = 0.3 * torch.randn(WIDTH, generator=generator) if mean else None
    spec = FeatureSpec(short_side=56, mean="library-1" if mean else None)
    return TemplateBank(spec, attributes, vectors, torch.tensor(index), offset)


def cosine(a: list[float], b: list[float]) -> float:
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(x * x for x in a)) / math.sqrt(math.fsum(y * y for y in b))


@pytest.mark.parametrize("debiased", [False, True])
def test_clipped_cosine_against_loops(debiased: bool) -> None:
    cells, templates = features(), bank([0, 0, 1], ("hair", "arm"), mean=debiased)
    got = patch_saliency(cells, templates)
    assert got.shape == (2, 3, 4, 5)
    offset = templates.mean.tolist() if templates.mean is not None else [0.0] * WIDTH
    negatives = 0
    for t, n, row, column in np.ndindex(*got.shape):
        cell = [x - m for x, m in zip(cells.descriptors[t, row, column].tolist(), offset, strict=True)]
        exemplar = [x - m for x, m in zip(templates.descriptors[n].tolist(), offset, strict=True)]
        expected = cosine(cell, exemplar)
        negatives += expected < 0
        assert got[t, n, row, column].item() == pytest.approx(max(0.0, expected), abs=1e-5)
    assert negatives > 10, "the test must see the clipping"


def test_equation_one_is_the_mean_aggregation_over_one_exemplar_per_attribute() -> None:
    cells, templates = features(), bank([0, 1, 2], ("hair", "arm", "leg"))
    per_attribute = attribute_saliency(cells, templates, "mean")
    s = aggregate(per_attribute, "mean")[:, 0]
    for t, row, column in np.ndindex(2, 4, 5):
        cell = cells.descriptors[t, row, column].tolist()
        clipped = [max(0.0, cosine(vector, cell)) for vector in templates.descriptors.tolist()]
        assert s[t, row, column].item() == pytest.approx(sum(clipped) / len(clipped), abs=1e-5)


def test_a_template_matches_itself_fully_and_its_opposite_not_at_all() -> None:
    cells = features(count=1)
    own = cells.descriptors[0, 2, 3]
    templates = TemplateBank(SPEC, ("hair", "arm"), torch.stack((own * 5, -own)), torch.tensor([0, 1]), None)
    planes = patch_saliency(cells, templates)[0, :, 2, 3]
    assert planes.tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


def test_exemplars_are_grouped_by_attribute() -> None:
    cells, templates = features(), bank([1, 0, 1, 0], ("hair", "arm"))
    single = patch_saliency(cells, templates)
    got = attribute_saliency(cells, templates, "max")
    assert torch.equal(got[:, 0], torch.maximum(single[:, 1], single[:, 3]))
    assert torch.equal(got[:, 1], torch.maximum(single[:, 0], single[:, 2]))


@given(PLANES)
def test_noisy_or_is_at_least_max_is_at_least_mean(planes: torch.Tensor) -> None:
    union, largest, mean = (aggregate(planes, how) for how in ("noisy-or", "max", "mean"))
    assert (union >= largest - 1e-6).all()
    assert (largest >= mean - 1e-6).all()
    for result in (union, largest, mean):
        assert result.shape == (1, 1, 3)
        assert ((result >= 0) & (result <= 1 + 1e-6)).all()


@given(PLANES, st.data())
def test_a_union_is_never_weakened_by_another_template(planes: torch.Tensor, data: st.DataObject) -> None:
    extra = data.draw(hnp.arrays(np.float32, (1, 1, 3), elements=st.floats(0, 1, width=32)))
    more = torch.cat([planes, torch.from_numpy(extra)], dim=1)
    for how in ("max", "noisy-or"):
        assert (aggregate(more, how) >= aggregate(planes, how) - 1e-6).all()


def test_the_mean_can_be_weakened_by_another_template() -> None:
    planes = torch.tensor([[[0.8]]])
    assert aggregate(torch.cat([planes, torch.zeros(1, 1, 1)], dim=1), "mean").item() == pytest.approx(0.4)


def test_every_aggregation_that_can_be_named_exists() -> None:
    assert set(OPERATIONS) == set(AGGREGATIONS)
    with pytest.raises(SettingsError, match=r"'median'.*max"):
        aggregate(torch.zeros(1, 1, 1), "median")


@pytest.mark.parametrize(
    "change",
    [{"layer": 3}, {"facet": "query"}, {"stride": 7}, {"short_side": 70}, {"backbone": "dino-vits8", "stride": 8}],
)
def test_descriptors_of_different_specs_are_never_compared(change: dict[str, object]) -> None:
    other = FeatureSpec(**{"short_side": 56, **change})  # type: ignore[arg-type]
    with pytest.raises(FeatureSpecMismatch):
        patch_saliency(features(spec=other), bank([0], ("hair",)))


def test_a_bank_carries_a_mean_exactly_if_its_spec_names_one() -> None:
    with pytest.raises(ValueError, match="mean"):
        TemplateBank(SPEC, ("hair",), torch.zeros(1, WIDTH), torch.tensor([0]), torch.zeros(WIDTH))


def random_planes(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, rows, columns, generator=torch.Generator().manual_seed(seed))


def test_upsampling_is_torchs_bilinear_where_cells_tile_the_image() -> None:
    planes = random_planes(4, 5)
    expected = F.interpolate(planes, size=(56, 70), mode="bilinear", align_corners=False)
    assert torch.allclose(upsample(planes, grid()), expected, atol=1e-6)


def test_upsampling_to_an_image_of_another_size_is_still_torchs_bilinear() -> None:
    planes = random_planes(4, 5)
    expected = F.interpolate(planes, size=(113, 141), mode="bilinear", align_corners=False)
    assert torch.allclose(upsample(planes, grid(image=(113, 141))), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "input_hw", "stride"),
    [
        ((56, 70), (56, 70), 14),
        ((56, 70), (56, 70), 7),
        ((56, 70), (56, 70), 4),
        ((480, 641), (56, 70), 7),
        ((97, 97), (56, 56), 5),
    ],
)
def test_a_cell_peaks_where_its_patch_lies(image: tuple[int, int], input_hw: tuple[int, int], stride: int) -> None:
    """The half-pixel rule, for overlapping patches and for images larger than the resized one."""
    where = grid(image, input_hw, stride)
    for row, column in [(0, 0), (where.rows - 1, where.columns - 1), (where.rows // 2, where.columns // 2), (1, 2)]:
        planes = torch.zeros(1, 1, where.rows, where.columns)
        planes[0, 0, row, column] = 1
        full = upsample(planes, where)[0, 0].numpy()
        assert full.max() > 0.7
        for axis, cell, cells in ((0, row, where.rows), (1, column, where.columns)):
            profile = full.max(axis=1 - axis)
            scale = image[axis] / input_hw[axis]
            centre = (cell * stride + 7) * scale  # in continuous coordinates: pixel i is [i, i + 1)
            inner = 0 < cell < cells - 1  # the outermost cells continue to the image's edge
            if inner:
                mass = (profile * (np.arange(image[axis]) + 0.5)).sum() / profile.sum()
                assert mass == pytest.approx(centre, abs=0.51)
            peak = np.flatnonzero(profile > profile.max() - 1e-6) + 0.5
            slack = 0.51 if inner else 1.0
            assert peak.min() - slack <= centre <= peak.max() + slack


@pytest.mark.parametrize("stride", [14, 7, 3])
def test_constant_planes_stay_constant(stride: int) -> None:
    where = grid((131, 97), (84, 56), stride)
    planes = torch.full((1, 2, where.rows, where.columns), 0.3)
    assert torch.allclose(upsample(planes, where), torch.full((1, 2, 131, 97), 0.3), atol=1e-6)


def test_a_grid_of_one_cell_fills_the_image() -> None:
    where = grid((30, 40), (14, 14), 14)
    assert torch.allclose(upsample(torch.full((1, 1, 1, 1), 0.7), where), torch.full((1, 1, 30, 40), 0.7))


def test_planes_come_in_the_order_asked_for_whichever_bank_holds_them() -> None:
    other = FeatureSpec(short_side=56, layer=3)
    first, second = features(0), features(5, spec=other)
    banks = [
        bank([0, 1], ("hair", "arm")),
        TemplateBank(other, ("leg",), torch.ones(1, WIDTH), torch.tensor([0]), None),
    ]
    planes = saliency_planes([first, second], banks, ["leg", "hair", "arm"], "max")
    assert planes.shape == (2, 3, 56, 70)
    assert ((planes >= 0) & (planes <= 1)).all()
    for position, (cells, templates, index) in enumerate(
        [(second, banks[1], 0), (first, banks[0], 0), (first, banks[0], 1)]
    ):
        expected = upsample(attribute_saliency(cells, templates, "max")[:, index : index + 1], grid())
        assert torch.allclose(planes[:, position], expected[:, 0], atol=1e-6)


def test_a_frame_that_is_the_template_everywhere_stays_within_one(tiny: Backbone) -> None:
    """Rounding in the upsampling must not carry a saliency over 1, where the compositor refuses it."""
    spec = FeatureSpec(TINY, 2, "key", 5, 56)
    found = tiny.extract(torch.full((1, 61, 83, 3), 128, dtype=torch.uint8), [spec])[spec]
    cells = found.descriptors[0].flatten(0, 1)
    own = TemplateBank(spec, ("hair",), cells, torch.zeros(len(cells), dtype=torch.long), None)
    planes = saliency_planes([found], [own], ["hair"], "max")
    assert planes.max() <= 1
    assert planes.min() > 0.999


def _unit(*values: float) -> Tensor:
    return F.normalize(torch.tensor(values, dtype=torch.float32), dim=0)


def _rivals(contrast: float) -> Rivals:
    """What was asked for points along x; one rival class along y, the rest along z."""
    probe = Probe(20 * torch.eye(3), torch.tensor([0.0, 0.5, 0.0]))
    asked_for = torch.tensor([True, False, False])
    return Rivals(probe, asked_for, asked_for[None], torch.tensor([contrast]), contrast)


def _one_row(*cells: Tensor) -> PatchFeatures:
    grid = PatchGrid((14, 14 * len(cells)), (14, 14 * len(cells)), 14, 14)
    return PatchFeatures(torch.stack(cells)[None, None], FeatureSpec(), grid)


def test_evidence_share_is_the_probability_of_what_was_asked_for() -> None:
    cells = [_unit(1, 0, 0), _unit(1, 1, 0), _unit(0, 1, 0), _unit(0, 0, 1)]
    share = evidence_share(_one_row(*(3 * cell for cell in cells)), _rivals(0.1), None)[0, 0]
    for (x, y, z), value in zip(cells, share.tolist(), strict=True):
        for_it = np.exp(20 * float(x))
        against = np.exp(20 * float(y) + 0.5) + np.exp(20 * float(z))
        assert value == pytest.approx(for_it / (for_it + against), abs=1e-5)
    assert share[0] > 0.99
    assert share[2] < 0.01


def test_parts_asked_for_together_do_not_compete() -> None:
    alone = _rivals(0.1)
    both = replace(alone, asked_for=torch.tensor([True, True, False]))
    cells = _one_row(_unit(1, 1, 0), _unit(0, 1, 0))
    assert torch.allclose(evidence_share(cells, both, None), torch.ones(1, 1, 2), atol=1e-5)
    assert (evidence_share(cells, alone, None) < 0.5).all()


def test_contrast_weakens_only_what_a_rival_explains_better() -> None:
    cells = _one_row(_unit(1, 0.1, 0), _unit(0.7, 0.72, 0), _unit(0.5, 1, 0))

    def planes(rivals: Rivals | None) -> Tensor:
        bank = TemplateBank(FeatureSpec(), ("x",), torch.tensor([[1.0, 0, 0]]), torch.tensor([0]), None, rivals)
        return attribute_saliency(cells, bank, "max")[0, 0, 0]

    plain, off, weighed = planes(None), planes(_rivals(0.0)), planes(_rivals(0.1))
    assert torch.equal(plain, off)
    assert weighed[0] == plain[0]
    assert weighed[1] == plain[1], "a share over the contrast changes nothing"
    share = evidence_share(cells, _rivals(0.1), None)[0, 0, 2]
    assert share < 0.1
    assert weighed[2] == pytest.approx(float(plain[2] * share / 0.1), rel=1e-4)


def test_little_evidence_for_one_part_is_not_enough_because_another_was_asked_for_too() -> None:
    """Else a collar, which is a little of a face, would be hair wherever both are hidden."""
    probe = Probe(torch.eye(3), torch.zeros(3))
    cell = _one_row(_unit(0.6, 0.5, 0.7))
    hair, face, _ = probe.probabilities(cell.descriptors)[0, 0, 0].tolist()
    own = torch.tensor([[True, False, False], [False, True, False]])
    needed = torch.tensor([2 * hair, 4 * face])
    asked = torch.tensor([True, True, False])

    def weights(together: float) -> list[float]:
        banks = (
            TemplateBank(FeatureSpec(), ("hair", "face"), torch.eye(3)[:2], torch.tensor([0, 1]), None, rivals)
            for rivals in (Rivals(probe, asked, own, needed, together), None)
        )
        weighed, plain = (attribute_saliency(cell, bank, "max")[0, :, 0, 0] for bank in banks)
        return (weighed / plain).tolist()

    assert weights(1e3) == pytest.approx([0.5, 0.25], rel=1e-4), "each as if it had been asked for alone"
    assert weights(2 * (hair + face)) == pytest.approx([0.5, 0.5], rel=1e-4), "or as sure as what needs most"
    assert weights(hair + face) == pytest.approx([1, 1], rel=1e-4)


def test_rivals_of_a_bank(library: TemplateLibrary, embedded_backbone: Backbone) -> None:
    """From the packaged cache: no pass over pictures is needed."""
    spec = FeatureSpec(layer=11, mean="library-1")
    bank = build_bank(library, embedded_backbone, spec, ["hair"], contrast={"hair": 0.2, "lips": 0.1})
    rivals = bank.rivals
    assert rivals is not None
    assert rivals.asked_for.tolist() == [True] * 5 + [False] * 5, "hair, lips; the face's other parts are no rivals"
    apart = build_bank(
        library, embedded_backbone, spec, ["hair"], contrast={"hair": 0.2, "lips": 0.1}, siblings_count=False
    )
    assert apart.rivals is not None
    assert (rivals.own[0].sum(), apart.rivals.own[0].sum()) == (1, 1)
    assert rivals.together == 0.2
    lips = build_bank(library, embedded_backbone, spec, ["lips"], contrast={"hair": 0.2, "lips": 0.1}).rivals
    assert lips is not None
    assert torch.equal(lips.own[0] | rivals.own[0], rivals.asked_for), "parts of a face count for each other"
    assert apart.rivals.asked_for.tolist() == [True, True] + [False] * 8, "seven attributes and everything else"
    body = build_bank(library, embedded_backbone, spec, ["arm"], contrast={"arm": 0.2})
    assert body.rivals is not None
    assert body.rivals.asked_for.sum() == 1, "limbs do compete"
    assert rivals.contrast.tolist() == pytest.approx([0.2])
    # what it was made of is told apart: a picture of nobody, and parts that were or were not asked for
    features = {
        name: embedded_backbone.extract(torch.from_numpy(library.pictures[name].read().copy())[None], [spec])[spec]
        for name in ("bg_brick", "hopper")
    }
    assert evidence_share(features["bg_brick"], rivals, bank.mean).mean() < 0.05
    share = evidence_share(features["hopper"], rivals, bank.mean)[0]
    grid = features["hopper"].grid
    for attribute, expected in (("lips", True), ("torso", False)):
        for template in library.templates:
            if (template.picture, template.attribute, template.negative) == ("hopper", attribute, False):
                assert (share[grid.cell_at(*template.centre)] > 0.5) == expected, template


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_descriptor_that_is_not_finite_stops_the_run(value: float) -> None:
    broken = features()
    broken.descriptors[1, 2, 3, 4] = value
    with pytest.raises(WeightsError, match="not finite"):
        patch_saliency(broken, bank([0], ("hair",)))


def test_an_own_negative_takes_from_its_attribute_what_it_matches_better() -> None:
    """Cosines with x and y are 1 and 0, equal, and 0.6 and 0.8: a lead of 0.2 leaves 2 / (1 + e^4)."""
    cells = _one_row(_unit(1, 0, 0), _unit(1, 1, 0), _unit(0.6, 0.8, 0))
    descriptors = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    certain = Probe(torch.zeros(1, 3), torch.zeros(1))
    alone = Rivals(certain, torch.tensor([True]), torch.ones(2, 1, dtype=torch.bool), torch.tensor([0.1, 0.1]), 0.1)
    negative = replace(
        alone,
        negatives=torch.tensor([[0, 1.0, 0], [0, 0, 1.0]]),
        negative_index=torch.tensor([1, 1]),
    )

    def planes(rivals: Rivals) -> Tensor:
        bank = TemplateBank(FeatureSpec(), ("x", "y"), descriptors, torch.tensor([0, 1]), None, rivals)
        return attribute_saliency(cells, bank, "max")[0, :, 0]

    plain, weighed = planes(alone), planes(negative)
    assert torch.equal(weighed[0], plain[0]), "another attribute's negative takes nothing"
    assert torch.allclose(weighed[1, :2], plain[1, :2], atol=1e-4), "what is matched as well stays"
    assert weighed[1, 2] == pytest.approx(0.6 * 2 / (1 + math.exp(4)), rel=1e-3)
