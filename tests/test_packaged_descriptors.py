"""The descriptors that ship with the package belong to the library, the weights and the presets that ship with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from anonymotion.backbone import Backbone
from anonymotion.closeup import enlarge_library
from anonymotion.descriptor_cache import DescriptorCache
from anonymotion.presets import PRESETS
from anonymotion.registry import ATTRIBUTES, BACKBONES, FeatureSpec
from anonymotion.template_bank import compute_vectors
from anonymotion.templates import TemplateLibrary

OFFLINE = [each for each in PRESETS.values() if BACKBONES[each.backbone].embedded_file is not None]
SPECS = sorted(
    {settings.spec_of(attribute).raw for settings in OFFLINE for attribute in ATTRIBUTES}, key=lambda spec: spec.layer
)
CLOSE_UPS = sorted({settings.close_up_spec.raw for settings in OFFLINE if settings.close_up}, key=str)


@pytest.mark.parametrize("spec", [*SPECS, *CLOSE_UPS], ids=lambda spec: f"layer {spec.layer}, {spec.short_side}")
def test_every_offline_preset_finds_its_descriptors(
    spec: FeatureSpec,
    library: TemplateLibrary,
    embedded_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a user's cache: otherwise the first run computes all pictures again, for half a minute."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    of = enlarge_library(library, spec.short_side) if spec in CLOSE_UPS else library
    vectors = DescriptorCache(of.digest, embedded_backbone.fingerprint).read(spec)
    assert vectors is not None, "run scripts/make_library_descriptors.py"
    assert len(vectors["templates"]) == len(library.templates)
    assert vectors["mean"].shape == (384,)


@pytest.mark.slow
def test_they_are_what_the_backbone_gives(library: TemplateLibrary, embedded_backbone: Backbone) -> None:
    """Recomputed for two pictures; the packaged numbers are float16."""
    names = ["hopper", "r_man_tshirt"]
    few = replace(
        library,
        pictures={name: library.pictures[name] for name in names},
        templates=tuple(template for template in library.templates if template.picture in names),
    )
    numbers = [i for i, template in enumerate(library.templates) if template.picture in names]
    cache = DescriptorCache(library.digest, embedded_backbone.fingerprint)
    for spec, vectors in compute_vectors(few, embedded_backbone, SPECS).items():
        packaged = cache.read(spec)
        assert packaged is not None
        cosine = torch.cosine_similarity(vectors["templates"], packaged["templates"][numbers], dim=1)
        assert float(cosine.min()) > 0.9999
