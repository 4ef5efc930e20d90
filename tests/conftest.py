"""Fixtures of all tests.  Nothing here touches the network, the user's cache or global random state for good."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from tiny import SIZE, TINY, TINY_ENTRY, moving, patchwork, tiny_backbone, tiny_library

from anonymotion.backbone import Backbone
from anonymotion.registry import BACKBONES
from anonymotion.templates import TemplateLibrary

SHARED = Path(__file__).resolve().parents[2] / "shared"

# How long an example takes says how busy the machine is, and nothing about what is tested.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Two threads: the suite shares its machine, and small tensors gain nothing from more.
torch.set_num_threads(2)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the machine cannot run, or fail where somebody has promised that it can."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        if os.environ.get("FAIL_WITHOUT_CUDA"):
            pytest.fail("FAIL_WITHOUT_CUDA is set, and torch finds no CUDA device")
        pytest.skip("needs CUDA")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the cache or the templates of the user who runs the suite, or downloads anything."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "TORCH_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        patch.delenv("ANONYMOTION_LIBRARY", raising=False)
        patch.setenv("ANONYMOTION_OFFLINE", "1")
        yield


@pytest.fixture(autouse=True)
def _random_state_restored() -> Iterator[None]:
    """Global random states are the same after a test as before it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips and weights beside the checkout."""
    if not SHARED.is_dir():
        if os.environ.get("REQUIRE_SHARED") == "1":
            pytest.fail(f"REQUIRE_SHARED=1, and {SHARED} is not there")
        pytest.skip(f"{SHARED} is not there")
    return SHARED


@pytest.fixture(scope="session")
def library() -> TemplateLibrary:
    """The built-in library."""
    return TemplateLibrary.load()


@pytest.fixture
def public_picture(library: TemplateLibrary) -> np.ndarray:
    """A public photograph of a person, (H, W, 3) uint8 RGB, writable."""
    return library.pictures["astronaut"].read().copy()


@pytest.fixture(scope="session")
def embedded_backbone() -> Backbone:
    """The default backbone with the weights of the package, on the CPU."""
    return Backbone.load("dinov2-vits14-embedded", torch.device("cpu"))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A random ViT of three blocks, registered as `TINY` while the test runs."""
    monkeypatch.setitem(BACKBONES, TINY, TINY_ENTRY)
    return tiny_backbone()


@pytest.fixture
def cpu() -> torch.device:
    """The device of nearly all tests."""
    return torch.device("cpu")


@pytest.fixture
def small(tmp_path: Path) -> TemplateLibrary:
    """A library of generated pictures, for the tiny network."""
    return tiny_library(tmp_path / "library")


@pytest.fixture
def frames() -> list[np.ndarray]:
    """Parts of a library picture, moving: with the tiny network some of it matches, some does not."""
    ground = patchwork((120, 140), seed=9)
    ground[20:84, 30:110] = patchwork((64, 80), seed=1)
    return moving(ground, 7, SIZE, (2, 1))
