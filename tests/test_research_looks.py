"""Looks that see the same frames share the flow as well as the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tiny import TINY, TINY_SETTINGS, patchwork, tiny_network

from anonymotion.backbone import Backbone
from anonymotion.flow import load_flow
from anonymotion.pipeline import Hider
from anonymotion.research.looks import REMEMBERED_FLOWS, Look, OneFlow, OnePass, look_at
from anonymotion.templates import TemplateLibrary

FRAMES = [patchwork((90, 130), seed=9)[n : n + 72, 2 * n : 2 * n + 96] for n in range(12)]


def test_looks_estimate_each_flow_once(tiny: Backbone, small: TemplateLibrary) -> None:
    network = OnePass(TINY, tiny_network(), tiny.patch_size, tiny.fingerprint, tiny.device)
    ways: list[dict[str, Any]] = [{}, {"look_ahead": 0}, {"every": "3"}]
    settings: dict[str, Any] = {**TINY_SETTINGS, "threshold": 0.3, "contrast": 0.0}
    hiders = [Hider("hair,torso", library=small, network=network, **{**settings, **way}) for way in ways]
    alone = [list(hider.explain(FRAMES)) for hider in hiders]
    looks = [Look(hider, small.digest) for hider in hiders]
    seen = list(look_at(looks, FRAMES))
    for look, chunks in zip(looks, alone, strict=True):
        masks = torch.cat([part.alphas[look.digest] for part in seen])
        assert torch.equal(masks, torch.cat([chunk.alpha for chunk in chunks]))
        assert 0 < float(masks.mean()) < 1
        assert isinstance(look.hider.flow, OneFlow)
        assert look.hider.flow is hiders[0].flow
        assert look.hider.flow.asked == len(FRAMES) - 1
        assert look.hider.networks["flow"] == "dis"
    assert torch.equal(torch.cat([part.flow for part in seen]), torch.cat([chunk.flow for chunk in alone[0]]))
    list(look_at(looks, FRAMES))
    assert isinstance(hiders[0].flow, OneFlow)
    assert hiders[0].flow.asked == len(FRAMES) - 1  # and it is not wrapped again


def test_a_remembered_flow_is_that_of_the_pair_and_nobody_can_change_it() -> None:
    estimator = load_flow("dis", torch.device("cpu"))
    shared = OneFlow(estimator)
    one, two = torch.from_numpy(np.stack(FRAMES[:2]))
    expected = estimator.between(two, one)
    shared.between(two, one).zero_()
    assert torch.equal(shared.between(two, one), expected)
    assert torch.equal(shared.between(one, two), estimator.between(one, two))
    assert shared.asked == 2
    for seed in range(REMEMBERED_FLOWS):
        shared.between(one, torch.from_numpy(patchwork((72, 96), seed=seed)))
    assert torch.equal(shared.between(two, one), expected)  # forgotten, and found again
    assert shared.asked == 3 + REMEMBERED_FLOWS
