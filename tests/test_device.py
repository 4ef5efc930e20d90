"""The device is chosen once, and never silently another one."""

from __future__ import annotations

import pytest
import torch

from anonymotion.device import DEVICE_CHOICES, choose_device, is_out_of_memory, memory_bytes
from anonymotion.errors import DeviceError, SettingsError


@pytest.fixture(params=[True, False], ids=["with CUDA", "without CUDA"])
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    return bool(request.param)


def test_auto_takes_cuda_where_there_is_one_and_says_why(cuda: bool) -> None:
    choice = choose_device("auto")
    assert choice.device == torch.device("cuda", 0) if cuda else torch.device("cpu")
    assert choice.device.type == ("cuda" if cuda else "cpu")
    assert "CUDA" in choice.reason


def test_cpu_is_cpu_even_where_there_is_cuda(cuda: bool) -> None:
    choice = choose_device("cpu")
    assert choice.device.type == choice.name == "cpu"
    assert "asked" in choice.reason


def test_cuda_is_never_replaced_by_the_cpu(cuda: bool) -> None:
    if cuda:
        assert choose_device("cuda").device.type == "cuda"
    else:
        with pytest.raises(DeviceError, match="--device cpu"):
            choose_device("cuda")


@pytest.mark.parametrize("word", ["gpu", "CPU", "", "cuda:1"])
def test_another_word_is_refused_with_the_known_ones(word: str) -> None:
    with pytest.raises(SettingsError) as caught:
        choose_device(word)
    assert all(choice in str(caught.value) for choice in DEVICE_CHOICES)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (Exception("OpenCV: Failed to allocate 9 bytes in function 'OutOfMemoryError'"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("no"), False),
    ],
)
def test_memory_that_ran_out_is_recognised(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_the_memory_of_this_machine_is_known_or_no_limit() -> None:
    assert memory_bytes(torch.device("cpu")) > 2**28
