"""Weight files: damaged, foreign and hostile ones are refused with one sentence."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from anonymotion import weights
from anonymotion.backbone import Backbone
from anonymotion.errors import WeightsError
from anonymotion.registry import BACKBONES
from anonymotion.weights import load_weights, planes, provenance

EMBEDDED = BACKBONES["dinov2-vits14-embedded"].embedded_file or ""


def refused(path: Path | None, embedded: str | None = None) -> str:
    with pytest.raises(WeightsError) as caught:
        load_weights(path, embedded)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_record_is_that_of_the_file_in_the_package() -> None:
    record = provenance()
    data = planes.unpack((weights.FOLDER / record["file"]).read_bytes())
    assert record["file"] == EMBEDDED
    assert hashlib.sha256(data).hexdigest() == record["sha256"]
    for key in ("source_package", "source_version", "source_licence", "upstream_licence", "rebuild"):
        assert record[key]


def test_a_damaged_embedded_file_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: torch.device
) -> None:
    shutil.copyfile(weights.FOLDER / EMBEDDED, tmp_path / EMBEDDED)
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    provenance()
    load_weights(None, EMBEDDED)
    with (tmp_path / EMBEDDED).open("r+b") as stream:
        stream.seek(-5, os.SEEK_END)
        last = stream.read(1)
        stream.seek(-5, os.SEEK_END)
        stream.write(bytes([last[0] ^ 1]))
    assert "install the package again" in refused(None, EMBEDDED)
    with pytest.raises(WeightsError, match="damaged"):
        Backbone.load("dinov2-vits14-embedded", cpu)


def test_a_missing_embedded_file_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provenance()
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    assert "cannot be read" in refused(None, EMBEDDED)
    assert "no weights" in refused(None, None)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 65535), max_size=300), st.integers(1, 3))
def test_packed_weights_are_the_same_bytes_again(patterns: list[int], parts: int) -> None:
    """Any bit pattern: also NaN with a payload, infinities, negative zero."""
    values = np.array(patterns * parts, np.uint16).view(np.float16)
    data = save({"a": torch.from_numpy(values), "b": torch.ones(2, 3, dtype=torch.float16)}, {"note": "odd"})
    packed = planes.pack(data)
    assert planes.unpack(packed) == data
    for damaged in (packed[:-1], packed[:20], b"", b"x" + packed[1:], packed + b"x", packed[:32] + packed[33:] + b"x"):
        with contextlib.suppress(ValueError):
            assert planes.unpack(damaged) != data
            assert len(damaged) == len(packed)  # nothing but the digest can find a changed byte


@pytest.mark.parametrize("place", ["head", "header", "high", "low"])
def test_every_part_of_the_embedded_file_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    data = bytearray((weights.FOLDER / EMBEDDED).read_bytes())
    _, header, high, _ = planes._HEAD.unpack_from(data)
    start = planes._HEAD.size
    data[{"head": 9, "header": start + 99, "high": start + header + high // 2, "low": len(data) - 9}[place]] ^= 4
    provenance()
    (tmp_path / EMBEDDED).write_bytes(data)
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    message = refused(None, EMBEDDED)
    assert "damaged" in message
    assert "install the package again" in message


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.pth", "."])
def test_a_path_that_is_no_file(tmp_path: Path, name: str) -> None:
    assert "check the path" in refused(tmp_path / name)


@pytest.mark.parametrize("keep", [0, 5, 30, -1])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"w{suffix}"
    tensors = {"a": torch.arange(100.0)}
    if suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:keep])
    assert path.name in refused(path)


PICKLE = pickle.dumps({"a": [1.5, None]}, protocol=2)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    st.binary(max_size=40)
    | st.tuples(st.integers(0, len(PICKLE) - 1), st.integers(0, 255)).map(
        lambda change: PICKLE[: change[0]] + bytes([change[1]]) + PICKLE[change[0] + 1 :]
    )
    | st.sampled_from([b"N0.", b"K\x01.", b"(", b"\x80\x02].", b"0.", b"e."]),
    st.sampled_from([".pth", ".safetensors"]),
)
def test_no_file_content_escapes_as_a_foreign_error(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    refused(path)


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"a": torch.zeros(2), "b": p}, lambda p: {"state_dict": p}])
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, how: str, wrap: object) -> None:
    path, trace = tmp_path / "w.pth", tmp_path / "was-here"
    content = wrap(Payload(trace))  # type: ignore[operator]
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    refused(path)
    assert not trace.exists()
    torch.load(path, weights_only=False) if how == "torch" else pickle.loads(path.read_bytes())  # noqa: S301
    assert trace.exists(), "the payload must be a live one"


def test_both_formats_give_the_same_float32_tensors_and_the_files_digest(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).half().view(2, 3), "b.c": torch.ones(2)}
    torch.save(tensors, tmp_path / "w.pt")
    save_file(tensors, tmp_path / "w.safetensors")
    for path in tmp_path.iterdir():
        got, digest = load_weights(path)
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
        assert set(got) == set(tensors)
        assert all(got[name].dtype == torch.float32 and torch.equal(got[name], tensors[name].float()) for name in got)


@pytest.mark.parametrize("key", ["state_dict", "model", "teacher"])
def test_a_checkpoints_weights_are_found_one_level_down(tmp_path: Path, key: str) -> None:
    torch.save({key: {"module.a": torch.ones(2)}, "epoch": 3}, tmp_path / "w.pt")
    assert list(load_weights(tmp_path / "w.pt")[0]) == ["a"]


@pytest.mark.parametrize("content", [torch.ones(2), [torch.ones(2)], {"epoch": 3}, {"state_dict": {"a": 1}}, 7])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    assert "state dict" in refused(tmp_path / "w.pt")


def test_weights_of_another_architecture_are_refused_in_one_line(tmp_path: Path, cpu: torch.device) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.zeros(3, 3), "cls_token": torch.zeros(1, 1, 5)}, path)
    with pytest.raises(WeightsError, match="do not fit dinov2-vits14-embedded") as caught:
        Backbone.load("dinov2-vits14-embedded", cpu, path)
    assert "\n" not in str(caught.value)
