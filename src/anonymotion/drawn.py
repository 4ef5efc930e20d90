"""Patches of drawn people, whose every pixel is labelled: they help the library's few points to say what an arm is.

Some dozens of centres of patch descriptors for each part, of renders of the CC0 MakeHuman body that
scripts/render_crowd.py makes and scripts/make_drawn_people.py reduces.  They are no exemplars: nothing is compared with
them, only the probe is fitted on them too, with a small share of each class's weight.

Not here: the fit (probe), which attributes it helps (template_bank), the renders (scripts/figures).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from anonymotion.probe import Drawn
from anonymotion.registry import FeatureSpec

PACKAGED_FILE = Path(__file__).parent / "library" / "drawn.safetensors"
REST = "rest"


def entry_key(fingerprint: str, spec: FeatureSpec) -> str:
    """Name of the entry for descriptors of a spec by weights of that SHA-256."""
    content = json.dumps({**asdict(spec.raw), "weights": fingerprint}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def drawn_people(
    fingerprint: str, spec: FeatureSpec, names: Sequence[str], mean: Tensor, path: Path = PACKAGED_FILE
) -> Drawn | None:
    """What helps a probe of the classes `names` and, last, everything else; None where there is nothing of that kind.

    Descriptors are those of the spec without `mean`, of length 1 and on its device.  Parts that are not among the names
    are left out.
    """
    from safetensors import SafetensorError, safe_open

    key = entry_key(fingerprint, spec)
    try:
        with safe_open(path, framework="pt") as stream:
            if f"{key}.descriptors" not in stream.keys():  # noqa: SIM118 - not a dict
                return None
            parts = json.loads(stream.metadata()["parts"])
            entry = {name: stream.get_tensor(f"{key}.{name}") for name in ("descriptors", "parts", "counts")}
    except (OSError, SafetensorError):
        return None  # absent or damaged: the library's own points decide, as they do for other networks
    classes = torch.tensor([len(names) if part == REST else [*names, part].index(part) for part in parts])
    missing = torch.tensor([part != REST and part not in names for part in parts])
    kept = ~missing[entry["parts"].long()]
    directions = torch.nn.functional.normalize(entry["descriptors"][kept].float().to(mean.device) - mean, dim=-1)
    return Drawn(
        directions,
        classes[entry["parts"][kept].long()].to(mean.device),
        entry["counts"][kept].float().to(mean.device),
    )


def write_drawn(entries: Mapping[str, Mapping[str, Tensor]], parts: Sequence[str], path: Path = PACKAGED_FILE) -> None:
    """Write entries by their `entry_key`: `descriptors` (K, D), raw, `parts` (K,), places in `parts`, `counts` (K,)."""
    from safetensors.torch import save_file

    kinds = {"descriptors": torch.float16, "parts": torch.uint8, "counts": torch.int32}
    tensors = {
        f"{key}.{name}": entry[name].to(kind).contiguous()
        for key, entry in entries.items()
        for name, kind in kinds.items()
    }
    save_file(tensors, path, metadata={"parts": json.dumps(list(parts)), "licence": "CC0-1.0"})
