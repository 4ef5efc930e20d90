"""Rebuild `library/descriptors.safetensors`: `python scripts/make_library_descriptors.py`.

Descriptors of every template, and the de-biasing mean, for the FeatureSpecs that the offline presets use by
default, so that the first run on a new machine needs no pass over the library's pictures.  Run it after any
change of the library, the embedded weights or a preset's layer, stride or short side; a test fails otherwise.

It does not compute specs of backbones whose weights are not in the package.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anonymotion.backbone import Backbone
from anonymotion.closeup import enlarge_library
from anonymotion.descriptor_cache import PACKAGED_FILE, DescriptorCache, write_packaged
from anonymotion.presets import PRESETS
from anonymotion.registry import BACKBONES, FeatureSpec
from anonymotion.template_bank import compute_vectors
from anonymotion.templates import TemplateLibrary


def packaged_specs() -> list[tuple[TemplateLibrary, list[FeatureSpec]]]:
    """The specs of the presets whose backbone is embedded, each once, with the library that they are of: the built-in
    one, and its heads enlarged."""
    library = TemplateLibrary.load()
    offline = [each for each in PRESETS.values() if BACKBONES[each.backbone].embedded_file is not None]
    specs = {each.spec_of(name).raw for each in offline for name in ("", *each.names_per_attribute())}
    closer = {each.close_up_spec.raw for each in offline if each.close_up}
    return [
        (library, sorted(specs, key=lambda spec: (spec.backbone, spec.short_side, spec.layer))),
        *((enlarge_library(library, spec.short_side), [spec]) for spec in closer),
    ]


def main() -> None:
    """Compute and write the file."""
    packaged = packaged_specs()
    (name,) = {spec.backbone for _, specs in packaged for spec in specs}
    backbone = Backbone.load(name, torch.device("cpu"))
    entries: dict[str, dict[str, Tensor]] = {}
    for library, specs in packaged:
        cache = DescriptorCache(library.digest, backbone.fingerprint)
        entries.update(
            {cache.key(spec): vectors for spec, vectors in compute_vectors(library, backbone, specs).items()}
        )
        for spec in specs:
            print(f"  {len(library.pictures)} pictures, {spec}")
    write_packaged(entries)
    print(f"{PACKAGED_FILE.name}: {PACKAGED_FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
