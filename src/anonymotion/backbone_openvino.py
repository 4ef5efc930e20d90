"""The blocks of a backbone on OpenVINO, for CPUs: converted from the same torch module, in one of three precisions.

    openvino        float32
    openvino-bf16   bfloat16 inside, on CPUs that compute with it
    openvino-int8   8-bit weights and activations (NNCF, after training, on the pictures of the built-in library)

What is converted takes any number of tokens, so it is made once per network and set of (layer, facet) pairs, whatever
the size of the frames, and kept in the user's cache folder with its SHA-256 beside it; what does not have that sum is
made again.  When it is made it is compared with torch.

Importing OpenVINO would report to its maker that it was imported; nothing of that leaves this process
(`load_openvino`).

Not here: what the blocks compute (blocks), images to tokens (backbone), graphics cards.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anonymotion.blocks import BlocksInContext, Part, Wanted, no_others
from anonymotion.descriptor_cache import user_cache_folder
from anonymotion.errors import DeviceError, MissingDependencyError, SettingsError
from anonymotion.networks import LazyNetwork, whole
from anonymotion.registry import ENGINES, backbone_entry

# Raise it when what is converted changes, so that older models are not found.
MODEL_FORMAT = 2

CALIBRATION_PICTURES = 16

# The mean cosine with torch below which a converted model is not used; what is right has more than 0.998.
LEAST_COSINE = 0.99

Samples = Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class EngineChoice:
    """A name of `registry.ENGINES`, never `auto`, and the sentence that explains the choice to a user."""

    name: str
    reason: str


def load_openvino() -> Any:
    """The module `openvino`, without its telemetry.  Raises MissingDependencyError if it is not there or broken.

    `import openvino`, and `import nncf`, send a message to a statistics service unless somebody has opted out; both do
    without where the package that sends it is not installed, and in this process it is not.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # what import takes for absent
    try:
        import openvino
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingDependencyError(
            f"OpenVINO cannot be used ({' '.join(str(error).split())[:120]}): pip install 'anonymotion[openvino]', or "
            "use --engine torch"
        ) from error
    return openvino


@cache
def _core() -> Any:
    """The one `Core` of this process, which lives as long as it.

    The last one to go would take with it the memory that the first one had set as the signal stack of its thread.  Let
    go by another thread, it would leave that one without: the next Ctrl-C would be a segmentation fault.
    """
    return load_openvino().Core()


def choose_engine(request: str, device: torch.device, backbone: str) -> EngineChoice:
    """What runs the backbone of that name on `device`: `request` is one of `registry.ENGINES`.

    Raises SettingsError for another word, or where OpenVINO was asked for and cannot run this backbone there, and
    MissingDependencyError where it is not installed.
    """
    if request not in ENGINES:
        raise SettingsError(f"engine {request!r} is not known: use one of {', '.join(ENGINES)}")
    if request.startswith("torch"):
        return EngineChoice(request, f"{request} was asked for")
    if request == "auto" and device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return EngineChoice("torch-bf16", "this graphics card computes with bfloat16")
        return EngineChoice("torch", "this graphics card does not compute with bfloat16")
    obstacle = None
    if device.type != "cpu":
        obstacle = f"OpenVINO is used on CPUs, and the device is {device.type}"
    elif backbone_entry(backbone).positions == "rotary":
        obstacle = f"{backbone} turns its keys by position, which is not converted"
    if request == "auto":
        if obstacle is None and find_spec("openvino") is None:
            obstacle = "OpenVINO is not installed (pip install 'anonymotion[openvino]')"
        if obstacle is not None:
            return EngineChoice("torch", obstacle)
        if computes_bf16():
            return EngineChoice("openvino-bf16", "OpenVINO is installed, and this CPU computes with bfloat16")
        return EngineChoice("openvino", "OpenVINO is installed")
    if obstacle is not None:
        raise SettingsError(f"engine {request} cannot be used: {obstacle}; use --engine torch")
    load_openvino()
    if request == "openvino-bf16" and not computes_bf16():
        raise DeviceError("engine openvino-bf16 needs a CPU that computes with bfloat16: use --engine openvino")
    if request == "openvino-int8" and find_spec("nncf") is None:
        raise MissingDependencyError("engine openvino-int8 needs NNCF: pip install 'anonymotion[openvino]'")
    return EngineChoice(request, f"{request} was asked for")


def computes_bf16() -> bool:
    """Whether OpenVINO finds bfloat16 instructions in this CPU."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVINOEngine:
    """The blocks of one network on OpenVINO, for as many threads as torch has.

    engine: a name of `registry.ENGINES` that begins with openvino.  fingerprint: of the network's weights.  samples:
    gives tokens of some pictures, (1, N, D), to compare with torch and to calibrate on.
    """

    def __init__(self, engine: str, network: nn.Module | LazyNetwork, fingerprint: str, samples: Samples) -> None:
        self._openvino = load_openvino()
        self.name = engine
        # timm types its modules as Any; the attributes used are those of its VisionTransformer.
        self._network: Any = network
        self._fingerprint, self._samples = fingerprint, samples
        # of 8 bits it is whole frames that are calibrated
        self.takes_parts = engine != "openvino-int8"
        self._requests: dict[Wanted, Any] = {}

    def run(self, tokens: Tensor, wanted: Wanted, rotary: Tensor | None) -> tuple[Tensor, ...]:
        """See Engine.run; `rotary` is None for every network that this takes."""
        nothing, request = no_others(wanted, self._network.embed_dim), self._request(wanted)
        found = [_outputs(request, (one, nothing), len(wanted)) for one in tokens]
        return tuple(torch.cat(vectors) for vectors in zip(*found, strict=True))

    def run_part(self, part: Part, wanted: Wanted) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """See Engine.run_part."""
        is_whole = not part[1].shape[1]
        outputs = _outputs(self._request(wanted), part, len(wanted) + is_whole)
        return tuple(vectors[0] for vectors in outputs[: len(wanted)]), outputs[-1] if is_whole else None

    def _request(self, wanted: Wanted) -> Any:
        """The network, compiled once, for any number of tokens."""
        if wanted not in self._requests:
            self._requests[wanted] = self._compiled(self._load(wanted))
        return self._requests[wanted]

    def _compiled(self, model: Any) -> Any:
        low = self.name == "openvino-bf16" or (self.name == "openvino-int8" and computes_bf16())
        options = {
            # Frames one after the other, each by all threads.  Two at a time, a thread each, take less processor time
            # by a tenth, but more memory by a quarter, and the last of an odd number has one thread.
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # by default it is whatever the CPU is fastest with
            "INFERENCE_PRECISION_HINT": "bf16" if low else "f32",
            # pinned, its threads wait for a core that another stage or another run is on, beside one that is idle
            "ENABLE_CPU_PINNING": False,
        }
        return _core().compile_model(model, "CPU", options).create_infer_request()

    def _load(self, wanted: Wanted) -> Any:
        """The converted model from the cache, or made anew."""
        folder = user_cache_folder() / "openvino" / self._key(wanted)
        if _is_intact(folder):
            return _core().read_model(folder / "model.xml")
        model = self._make(wanted)
        self._compare(model, wanted)
        with contextlib.suppress(OSError):  # a folder that cannot be written only costs time later
            self._keep(model, folder)
        return model

    def _key(self, wanted: Wanted) -> str:
        """Everything that decides the model; bfloat16 is a way to run the float32 one."""
        kind = "int8" if self.name == "openvino-int8" else "float"
        content = {
            "format": MODEL_FORMAT,
            "weights": self._fingerprint,
            "architecture": repr(self._network),
            "wanted": wanted,
            "kind": kind,
            "versions": [
                installed_version(name) for name in ("openvino", "torch", "timm", "nncf")[: 3 + (kind == "int8")]
            ],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def _make(self, wanted: Wanted) -> Any:
        """Convert, and quantise for 8 bits."""
        width = self._network.embed_dim
        others = no_others(wanted, width)
        with _quiet():
            model = self._openvino.convert_model(
                BlocksInContext(whole(self._network), wanted).eval(),
                example_input=(torch.zeros(1, self._network.num_prefix_tokens + 12, width), others),
                input=[self._openvino.PartialShape([rows, -1, width]) for rows in (1, len(others))],
            )
            if self.name != "openvino-int8":
                return model
            import nncf

            pictures = islice(self._samples(), CALIBRATION_PICTURES)
            samples = [(tokens.numpy(), others.numpy()) for tokens in pictures]
            return nncf.quantize(
                model,
                nncf.Dataset(samples),
                model_type=nncf.ModelType.TRANSFORMER,
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(samples),
            )

    def _compare(self, model: Any, wanted: Wanted) -> None:
        """Raise DeviceError if the model is far from torch: what it does not match would be shown."""
        (picture,), prefix = next(iter(self._samples())), self._network.num_prefix_tokens
        blocks, request = BlocksInContext(whole(self._network), wanted), self._compiled(model)
        context = self._compared(request, blocks, (picture, no_others(wanted, self._network.embed_dim)))
        cells = torch.arange(len(picture)) - prefix
        taken = (cells < 0) | (cells % 2 == 0)
        self._compared(request, blocks, (picture[taken], context[:, ~taken]))

    def _compared(self, request: Any, blocks: nn.Module, part: Part) -> Tensor:
        """What torch has of keys and values of a part; raises as `_compare`."""
        with torch.inference_mode():
            expected = blocks(part[0][None], part[1])
        for own, right in zip(_outputs(request, part, len(expected)), expected, strict=True):
            if not right.numel():  # keys and values, where no block attends
                continue
            cosine = float(F.cosine_similarity(own, right, dim=-1).mean())
            if not cosine >= LEAST_COSINE:  # also for NaN
                raise DeviceError(
                    f"engine {self.name} gives other descriptors than torch on this machine (cosine {cosine:.3f}, "
                    f"expected {LEAST_COSINE}): use --engine torch"
                )
        context: Tensor = expected[-1]
        return context

    def _keep(self, model: Any, folder: Path) -> None:
        """Put the model into the cache, all of it or nothing."""
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder.parent, suffix=".partial", ignore_cleanup_errors=True) as partial:
            written = Path(partial) / "model"
            written.mkdir(mode=0o700)
            self._openvino.save_model(model, written / "model.xml", compress_to_fp16=False)
            (written / "sha256.json").write_text(json.dumps(_sums(written)) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(written, folder)


def _outputs(request: Any, part: Part, count: int) -> list[Tensor]:
    """The first so many outputs for a part of a frame."""
    tokens, others = part
    request.infer([tokens[None].contiguous().numpy(), others.contiguous().numpy()])
    # the engine writes its next result into the same memory
    return [torch.from_numpy(request.get_output_tensor(i).data.copy()) for i in range(count)]


def installed_version(name: str) -> str:
    """The version of a package, or `none`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _sums(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("model.xml", "model.bin")}


def _is_intact(folder: Path) -> bool:
    """Whether the two files of a model are there and have the sums noted beside them."""
    try:
        return bool(json.loads((folder / "sha256.json").read_text()) == _sums(folder))
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the converters say about themselves on the way."""
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        warnings.simplefilter("ignore")
        logging.getLogger("nncf").setLevel(logging.ERROR)
        yield
