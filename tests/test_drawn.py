"""Drawn people help the probe of what they are packaged for, and of nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anonymotion import template_bank
from anonymotion.backbone import Backbone, PatchFeatures
from anonymotion.drawn import drawn_people, entry_key, write_drawn
from anonymotion.presets import PRESETS
from anonymotion.probe import Drawn, fit
from anonymotion.registry import ATTRIBUTES, FeatureSpec
from anonymotion.saliency import attribute_saliency
from anonymotion.template_bank import TemplateBank, build_bank
from anonymotion.templates import TemplateLibrary

STRICT = PRESETS["strict"]
SPEC = FeatureSpec(layer=10, short_side=336, mean="some")


def written(folder: Path) -> Path:
    """A file with four arms, two legs and twelve of the rest, for `SPEC` and the weights `f`."""
    parts = ["rest", "arm", "leg"]
    entry = {
        "descriptors": torch.eye(8)[:3] + 1,
        "parts": torch.tensor([1, 2, 0]),
        "counts": torch.tensor([4.0, 2.0, 12.0]),
    }
    path = folder / "drawn.safetensors"
    write_drawn({entry_key("f", SPEC): entry}, parts, path)
    return path


def bank_of(library: TemplateLibrary, backbone: Backbone, *names: str) -> TemplateBank:
    """As strict has it."""
    return build_bank(library, backbone, STRICT.spec_of(names[0]), names, contrast=dict.fromkeys(names, 0.3))


def test_parts_become_classes_and_descriptors_directions(tmp_path: Path) -> None:
    found = drawn_people("f", SPEC, ["arm", "torso"], torch.ones(8), written(tmp_path))
    assert found is not None
    assert found.classes.tolist() == [0, 2]  # a leg is not among the names: it is no rest either
    assert found.counts.tolist() == [4, 12]
    assert torch.allclose(found.descriptors, torch.eye(8)[[0, 2]], atol=1e-3)


def test_other_weights_other_specs_and_no_file_have_none(tmp_path: Path) -> None:
    path, mean = written(tmp_path), torch.ones(8)
    assert drawn_people("other", SPEC, ["arm"], mean, path) is None
    assert drawn_people("f", replace(SPEC, layer=9), ["arm"], mean, path) is None
    assert drawn_people("f", SPEC, ["arm"], mean, tmp_path / "absent") is None
    path.write_bytes(path.read_bytes()[:40])
    assert drawn_people("f", SPEC, ["arm"], mean, path) is None


def test_drawn_descriptors_have_a_share_of_what_both_know() -> None:
    """Of a class that the library has and they have too; one that only they have is none."""
    library = torch.eye(6)[:3]
    classes = torch.tensor([0, 1, 2])
    drawn = Drawn(F.normalize(torch.eye(6)[[3, 4, 5]], dim=-1), torch.tensor([0, 0, 2]), torch.tensor([5.0, 1.0, 9.0]))
    alone, helped = fit(library, classes, 3), fit(library, classes, 3, drawn)
    seen = helped.probabilities(torch.eye(6)).argmax(dim=-1)
    assert seen[:4].tolist() == [0, 1, 2, 0]
    assert helped.probabilities(torch.eye(6)[3])[0] > alone.probabilities(torch.eye(6)[3])[0]
    assert helped.probabilities(torch.eye(6)[3])[0] > helped.probabilities(torch.eye(6)[4])[0]  # five against one
    only_drawn = fit(library[1:], classes[1:], 3, drawn)
    assert only_drawn.probabilities(torch.eye(6))[:, 0].max() < 1 / 3


def test_arms_are_helped_and_hands_are_not(library: TemplateLibrary, embedded_backbone: Backbone) -> None:
    rivals = bank_of(library, embedded_backbone, "hand", "arm").rivals
    assert rivals is not None
    assert rivals.helped is not None
    assert rivals.by_help.tolist() == [False, True]
    alone = bank_of(library, embedded_backbone, "hand").rivals
    assert alone is not None
    assert alone.helped is None


def test_the_file_is_for_what_strict_compares(embedded_backbone: Backbone) -> None:
    """Otherwise it lies in the package for nothing: run scripts/make_drawn_people.py."""
    found = drawn_people(embedded_backbone.fingerprint, STRICT.spec_of("arm"), ATTRIBUTES, torch.zeros(384))
    assert found is not None
    assert torch.isfinite(found.descriptors).all()
    assert {ATTRIBUTES.index("arm"), len(ATTRIBUTES)} <= set(found.classes.tolist())


def test_a_template_of_the_library_still_moves_a_helped_probe(
    library: TemplateLibrary, embedded_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody adds counts at once: here, an exemplar that is taken away."""
    first = bank_of(library, embedded_backbone, "arm")
    assert first.rivals is not None
    assert first.rivals.helped is not None
    vectors = template_bank._vectors(library, embedded_backbone, first.spec)
    number = next(i for i, t in enumerate(library.templates) if t.attribute == "arm" and not t.negative)
    vectors["templates"][number] = vectors["mean"] + torch.randn(384, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(template_bank, "_vectors", lambda *_: vectors)
    other = bank_of(library, embedded_backbone, "arm")
    assert other.rivals is not None
    assert other.rivals.helped is not None
    sought = F.normalize(vectors["templates"][number] - vectors["mean"], dim=-1)
    before, after = (bank.rivals.helped.probabilities(sought)[0] for bank in (first, other))  # type: ignore[union-attr]
    assert after > before + 0.2


def test_what_is_found_by_evidence_need_not_be_like_an_exemplar(
    library: TemplateLibrary, embedded_backbone: Backbone, public_picture: np.ndarray
) -> None:
    """Of the attributes for which that holds the cosine weakens nothing; of the others nothing changes."""
    bank = bank_of(library, embedded_backbone, "torso", "leg")
    assert bank.rivals is not None
    by_evidence = replace(bank, rivals=replace(bank.rivals, by_evidence=torch.tensor([True, False])))
    features: PatchFeatures = embedded_backbone.extract(torch.from_numpy(public_picture)[None], [bank.spec.raw])[
        bank.spec.raw
    ]
    usual, evidence = (attribute_saliency(features, each, "max") for each in (bank, by_evidence))
    assert torch.equal(usual[:, 1], evidence[:, 1])
    assert (evidence[:, 0] >= usual[:, 0]).all()
    share = bank.rivals.probe.probabilities(F.normalize(features.descriptors - bank.mean, dim=-1))[..., 0] / 0.3
    assert torch.allclose(evidence[:, 0], share.clamp(max=1).maximum(usual[:, 0]))
