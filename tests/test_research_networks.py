"""The registry of networks: sizes, inputs, published parameter counts, weights that cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from anonymotion.errors import SettingsError, WeightsError
from anonymotion.research.networks import (
    ACTION_NETWORKS,
    NETWORKS,
    PRIVACY_NETWORKS,
    build,
    network_entry,
    parameters,
)
from anonymotion.research.wrappers import OverFrames, Small3D, TwoStreams

CLASSES = 5
# Small enough for a CPU, large enough for every stride: (frames, crop).
TINY = {"mvit": (8, 64), "slowfast": (8, 64), "vit-b-16": (2, 224), "vit-b-32": (2, 224)}


def tiny_input(name: str) -> torch.Tensor:
    frames, crop = TINY.get(name, (4, 64))
    return torch.randn(2, NETWORKS[name].channels, frames, crop, crop, generator=torch.Generator().manual_seed(0))


def test_the_paper_has_13_action_and_5_privacy_networks() -> None:
    assert [NETWORKS[name].label for name in ACTION_NETWORKS] == [
        *("C2D", "CSN", "E2S X3D L", "E2S X3D M", "E2S X3D S", "I3D", "MViT", "R2+1D", "Slow", "SlowFast"),
        *("X3D L", "X3D M", "X3D S"),
    ]
    assert [NETWORKS[name].label for name in PRIVACY_NETWORKS] == [
        *("ResNet-18", "ResNet-50", "ResNet-101", "ViT-B/16", "ViT-B/32"),
    ]
    sizes = {name: (NETWORKS[name].frames, NETWORKS[name].stride) for name in ACTION_NETWORKS}
    # Table 1 of the paper
    assert sizes["c2d"] == sizes["i3d"] == sizes["slow"] == (8, 8)
    assert sizes["csn"] == sizes["slowfast"] == (32, 2)
    assert sizes["r2plus1d"] == sizes["mvit"] == (16, 4)
    assert sizes["x3d-s"] == sizes["e2s-x3d-s"] == (13, 6)
    assert sizes["x3d-m"] == sizes["x3d-l"] == sizes["e2s-x3d-m"] == sizes["e2s-x3d-l"] == (16, 5)


def test_an_unknown_network_is_refused_with_the_known_names() -> None:
    with pytest.raises(SettingsError, match="c2d, csn"):
        network_entry("c3d")
    with pytest.raises(SettingsError, match="at least 2 classes"):
        build(NETWORKS["small-3d"], 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ACTION_NETWORKS + PRIVACY_NETWORKS if NETWORKS[name].published])
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    entry = NETWORKS[name]
    count = parameters(build(entry, entry.classes))
    assert entry.published is not None
    if entry.family == "torchvision":
        assert count == entry.published
    else:
        assert round(count / 1e6, 2) == entry.published / 1e6


@pytest.mark.slow
@pytest.mark.parametrize("size", ["s", "m", "l"])
def test_e2s_is_two_x3d_and_a_linear_layer(size: str) -> None:
    two, one = (parameters(build(NETWORKS[f"{kind}x3d-{size}"], CLASSES)) for kind in ("e2s-", ""))
    assert two == 2 * one + (2 * CLASSES) * CLASSES + CLASSES


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTION_NETWORKS + PRIVACY_NETWORKS)
def test_one_training_step_and_one_evaluation(name: str) -> None:
    torch.manual_seed(0)
    clips, labels = tiny_input(name), torch.tensor([1, 3])
    network = build(NETWORKS[name], CLASSES, input_size=TINY.get(name, (4, 64)))
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-4)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    loss = F.cross_entropy(network(clips), labels)
    loss.backward()
    optimiser.step()
    assert torch.isfinite(loss)
    # not all must move in the first step: residual branches begin with a factor of 0
    assert [key for key, value in network.named_parameters() if value.grad is None] == []
    moved = [not torch.equal(new, old) for new, old in zip(network.parameters(), before, strict=True)]
    assert sum(moved) > len(moved) / 3
    network.eval()
    with torch.inference_mode():
        scores = network(clips)
        again = network(clips)
    assert scores.shape == (2, CLASSES)
    assert torch.isfinite(scores).all()
    assert torch.equal(scores, again)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x3d-s", "r2plus1d", "i3d", "slowfast"])
def test_the_scores_are_logits_and_the_global_pooling_is_the_published_one(name: str) -> None:
    """At the nominal size of the last feature map the replaced pooling must give what the builder's gives."""
    from anonymotion.research import networks

    entry = NETWORKS[name]
    torch.manual_seed(0)
    ours = build(entry, entry.classes).eval()
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "_pool_everything", lambda network: None)
        theirs = build(entry, entry.classes).eval()
    theirs.load_state_dict(ours.state_dict())
    crop = 160 if name == "x3d-s" else 224  # the size that PyTorchVideo's own builder of X3D-S pools for
    clips = torch.randn(1, 3, entry.frames, crop, crop)
    with torch.inference_mode():
        scores, reference = ours(clips), theirs(clips)
    assert torch.allclose(scores, reference, atol=1e-4)
    assert not torch.allclose(scores.sum(dim=1), torch.ones(1), atol=1e-3), "a softmax is in the network"


@pytest.mark.parametrize("name", ["small-3d", "small-3d-whole", "small-flow"])
def test_the_small_networks_learn_a_clip_by_heart(name: str) -> None:
    torch.manual_seed(0)
    network = build(NETWORKS[name], 2)
    clips = torch.randn(4, NETWORKS[name].channels, 8, 32, 32)
    labels = torch.tensor([0, 1, 0, 1])
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        loss = F.cross_entropy(network(clips), labels)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3
    assert parameters(network) < 400_000


def test_the_flow_network_does_not_see_the_pictures() -> None:
    torch.manual_seed(0)
    network = Small3D(3, only_flow=True).eval()
    clips = torch.randn(1, 6, 8, 32, 32)
    other = torch.cat((torch.randn(1, 3, 8, 32, 32), clips[:, 3:]), dim=1)
    assert torch.equal(network(clips), network(other))
    assert not torch.allclose(network(clips), network(other.flip(1)))


def test_two_streams_join_the_logits_of_both() -> None:
    class Constant(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, clips: torch.Tensor) -> torch.Tensor:
            assert clips.shape[1] == 3
            return clips.mean(dim=(1, 2, 3, 4))[:, None].expand(-1, 2) * self.value

    network = TwoStreams(Constant(1.0), Constant(10.0), 2)
    with torch.no_grad():
        network.joined.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 0, 1.0, 0]]))
        network.joined.bias.zero_()
    clips = torch.cat((torch.full((1, 3, 2, 4, 4), 2.0), torch.full((1, 3, 2, 4, 4), 3.0)), dim=1)
    assert network(clips).tolist() == [[2.0, 30.0]]


def test_outputs_over_frames_are_mean_probabilities() -> None:
    class Brightness(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.stack((images.mean(dim=(1, 2, 3)), torch.zeros(len(images))), dim=1)

    clips = torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 2.0)], dim=1)[None]
    expected = torch.stack([torch.tensor([0.0, 0.0]).softmax(0), torch.tensor([2.0, 0.0]).softmax(0)]).mean(dim=0)
    assert torch.allclose(OverFrames(Brightness())(clips).exp()[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x3d-s", "e2s-x3d-s", "resnet-18"])
def test_pretrained_weights_offline_are_one_line(name: str) -> None:
    with pytest.raises(WeightsError) as caught:
        build(NETWORKS[name], CLASSES, "hub")
    assert "ANONYMOTION_OFFLINE=1" in str(caught.value)
    assert "another machine" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x3d-s", "resnet-18"])
def test_pretrained_weights_of_a_file_fill_all_but_the_head(name: str, tmp_path: Path) -> None:
    entry = NETWORKS[name]
    torch.manual_seed(0)
    full = build(entry, entry.classes)
    state = full.state_dict() if name == "x3d-s" else full.network.state_dict()
    path = tmp_path / "weights.pyth"
    torch.save({"model_state": state, "epoch": 3, "cfg": "text"} if name == "x3d-s" else state, path)
    torch.manual_seed(1)
    loaded = build(entry, CLASSES, path).state_dict()
    other = [key for key, value in full.state_dict().items() if not torch.equal(loaded[key], value)]
    assert all("proj" in key or ".fc." in key for key in other)
    assert len(other) == 2
    with pytest.raises(WeightsError, match="do not fit"):
        build(NETWORKS["resnet-50" if name == "resnet-18" else "i3d"], CLASSES, path)


def test_pretrained_weights_of_our_own_networks_do_not_exist() -> None:
    with pytest.raises(SettingsError, match="no published weights"):
        build(NETWORKS["small-3d"], 3, "hub")
