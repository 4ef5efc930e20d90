"""`anonymotion doctor`: what is installed, what would be used, and whether it works.

Not here: printing (cli), repairs.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anonymotion.device import choose_device
from anonymotion.errors import AnonymotionError
from anonymotion.registry import BACKBONES
from anonymotion.results import library_versions

REPORT_SCHEMA_VERSION = 1


def examine(device: str = "auto", engine: str = "auto") -> dict[str, Any]:
    """Versions, device, engine, weights, library and a self-test, as one JSON document; `ok` sums it up.

    A check that fails is reported with its message instead of being raised.
    """
    import torch

    report: dict[str, Any] = {
        "schema_version": REPORT_SCHEMA_VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": library_versions(),
    }
    checks: dict[str, Callable[[], dict[str, Any]]] = {
        "device": lambda: _device(device),
        "engine": lambda: _engine(device, engine),
        "weights": _weights,
        "library": _library,
        "self_test": lambda: _self_test(device, engine),
    }
    failures = 0
    for name, check in checks.items():
        try:
            report[name] = check()
        except AnonymotionError as error:
            report[name] = {"error": str(error)}
            failures += 1
    report["ok"] = failures == 0
    return report


def _device(request: str) -> dict[str, Any]:
    import torch

    choice = choose_device(request)
    return {"name": choice.name, "reason": choice.reason, "torch_cuda_build": torch.version.cuda}


def _engine(device: str, request: str) -> dict[str, Any]:
    from anonymotion.backbone_openvino import choose_engine
    from anonymotion.presets import PRESETS

    choice = choose_engine(request, choose_device(device).device, PRESETS["strict"].backbone)
    return {"name": choice.name, "reason": choice.reason}


def _weights() -> dict[str, Any]:
    from anonymotion.weights import load_weights, provenance

    found = {}
    for name, entry in BACKBONES.items():
        if entry.embedded_file is None:
            found[name] = "not in the package: --backbone-weights"
        else:
            _, digest = load_weights(None, entry.embedded_file)
            record = provenance()
            found[name] = f"embedded, SHA-256 {digest[:12]}... as recorded, from {record['source_package']}"
    return found


def _library() -> dict[str, Any]:
    from anonymotion.templates import TemplateLibrary

    library = TemplateLibrary.load()
    for picture in library.pictures.values():
        picture.read()
    return {
        "pictures": len(library.pictures),
        "exemplars": {name: len(library.exemplars(name)) for name in library.attributes},
    }


def _self_test(device: str, engine: str) -> dict[str, Any]:
    """Hide the face in four frames of the sample clip; look at what was written, as a user would."""
    from anonymotion import video
    from anonymotion.run import FileOptions, hide_video
    from anonymotion.sample import make_sample

    # The sample is a public-domain picture: nothing of a user's is ever in this folder.
    with tempfile.TemporaryDirectory(prefix="anonymotion-doctor-") as folder:
        clip, hidden, masks = (Path(folder) / name for name in ("clip.mp4", "hidden.mp4", "masks"))
        make_sample(clip, frames=4)
        result = hide_video(clip, hidden, "face", device=device, engine=engine, files=FileOptions(masks=masks))
        pairs = []
        for path in (clip, hidden):
            with video.open_source(path) as source:
                pairs.append(np.stack([frame.image for frame in source]).astype(np.float32))
        with video.open_source(masks) as source:
            replaced = np.stack([frame.image[..., 0] for frame in source]) == 255
    difference = np.abs(pairs[0] - pairs[1]).mean(axis=-1)
    inside, outside = float(difference[replaced].mean()), float(difference[~replaced].mean())
    if not (inside > 5 * outside and 0.001 < replaced.mean() < 0.5):
        raise AnonymotionError(
            f"the self-test hid {replaced.mean():.1%} of the frame; mean difference {inside:.1f} inside, {outside:.1f} "
            "outside: this installation does not work as it should"
        )
    return {
        "frames": result.frames,
        "hidden_share": round(float(replaced.mean()), 4),
        "mean_difference_inside": round(inside, 1),
        "mean_difference_outside": round(outside, 1),
        "seconds": round(result.seconds["total"], 2),
    }
