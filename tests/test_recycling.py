"""Memory is used again, and only by one at a time."""

from __future__ import annotations

import threading

import pytest
import torch

from anonymotion import recycling

LARGE = recycling.LEAST_BYTES // 4


def test_memory_comes_back_once_nothing_refers_to_it() -> None:
    one = recycling.empty(6 * LARGE)
    part, where = one[5:9], one.data_ptr()
    del one
    assert recycling.empty(6 * LARGE).data_ptr() != where, "a view of it is still there"
    del part
    assert recycling.empty(3, 2, LARGE).data_ptr() == where, "as many bytes, of any shape"


def test_tensors_are_what_was_asked_for(cpu: torch.device) -> None:
    for shape, dtype in (
        ((2, LARGE), torch.float32),
        ((3, 7, LARGE), torch.uint8),
        ((4,), torch.int64),
        ((0, 5), None),
    ):
        got = recycling.empty(*shape, dtype=dtype or torch.float32, device=cpu)
        assert (got.shape, got.dtype, got.device) == (shape, dtype or torch.float32, cpu)
        assert got.is_contiguous()


def test_no_two_tensors_share_memory() -> None:
    """Threads take and drop tensors of two sizes, each filled with a number of its own."""
    wrong = []

    def work(number: int) -> None:
        for turn in range(30):
            mine = recycling.empty(LARGE + turn % 2).fill_(number)
            other = recycling.empty(LARGE + turn % 2).fill_(-1)
            if not bool((mine == number).all()):
                wrong.append(number)
            del mine, other

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_little_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recycling, "MOST_KEPT_BYTES", 16 * LARGE)
    tensors = [recycling.empty(LARGE + 1) for _ in range(6)]
    del tensors
    assert sum(block.nbytes for block in recycling._BLOCKS._free) <= recycling.MOST_KEPT_BYTES
