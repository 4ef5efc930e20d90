"""Rebuild `library/descriptors.safetensors`: `python scripts/make_library_descriptors.py`.

Descriptors of every template, and the de-biasing mean, for the FeatureSpecs that the offline presets use by
default, so that the first run on a new machine needs no pass over the library's pictures.  Run it after any
change of the library, the embedded weights or a preset's layer, stride or short side; a test fails otherwise.

It does not compute specs of backbones whose weights are not in the package.
"""

from __future__ import annotations

import torch

from anonymotion.backbone import Backbone
from anonymotion.descriptor_cache import PACKAGED_FILE, DescriptorCache
from anonymotion.presets import PRESETS
from anonymotion.registry import BACKBONES, FeatureSpec
from anonymotion.template_bank import compute_vectors
from anonymotion.templates import TemplateLibrary


def packaged_specs() -> list[FeatureSpec]:
    """The specs of the presets whose backbone is embedded, each once."""
    specs = {
        settings.spec_of(attribute).raw
        for settings in PRESETS.values()
        if BACKBONES[settings.backbone].embedded_file is not None
        for attribute in ("", *settings.names_per_attribute())
    }
    return sorted(specs, key=lambda spec: (spec.backbone, spec.short_side, spec.layer))


def main() -> None:
    """Compute and write the file."""
    library = TemplateLibrary.load()
    specs = packaged_specs()
    (name,) = {spec.backbone for spec in specs}
    backbone = Backbone.load(name, torch.device("cpu"))
    vectors = compute_vectors(library, backbone, specs)
    DescriptorCache(library.digest, backbone.fingerprint).write_packaged(vectors)
    print(f"{PACKAGED_FILE.name}: {len(specs)} specs, {PACKAGED_FILE.stat().st_size / 1e3:.0f} kB")
    for spec in specs:
        print(f"  {spec}")


if __name__ == "__main__":
    main()
