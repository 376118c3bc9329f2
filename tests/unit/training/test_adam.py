"""Adam against torch's own class."""

import pytest
import torch
from torch import nn

from aeflow.methods.method import Update
from aeflow.training.adam import Adam


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("weight_decay", [0.0, 0.125])
def test_the_same_bits_as_torchs(clip: float | None, weight_decay: float) -> None:
    """A frozen parameter and one without a gradient in the first step included."""

    def network() -> nn.ModuleList:
        torch.manual_seed(0)
        layers = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)])
        layers[1].requires_grad_(False)
        return layers.to(memory_format=torch.channels_last)

    def loss(layers: nn.ModuleList, step: int) -> torch.Tensor:
        x = layers[1](layers[0](torch.full((2, 3, 8, 8), float(step)))).mean(dim=(2, 3))
        return (layers[2](x) if step else x).square().sum()

    ours, theirs = network(), network()
    adam = Adam(Update(list(ours.parameters()), 0.03, (0.7, 0.999), weight_decay, clip=clip))
    expected = torch.optim.Adam(
        theirs.parameters(), lr=0.03, betas=(0.7, 0.999), weight_decay=weight_decay
    )
    norms = [0.0]
    for step in range(4):
        adam.step(loss(ours, step), share=0.0, retain_graph=False)
        expected.zero_grad()
        loss(theirs, step).backward()
        if clip is not None:
            norms.append(nn.utils.clip_grad_norm_(theirs.parameters(), clip).item())
        expected.step()
    assert clip is None or max(norms) > 2 * clip
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("cosine", "rate"), [(False, 0.5), (True, 0.375)])
def test_the_rate_follows_from_the_share_that_is_done(cosine: bool, rate: float) -> None:
    """The first step of Adam is as long as the rate; after a third, cos(pi / 3) is a half."""
    parameter = nn.Parameter(torch.zeros(1))
    Adam(Update([parameter], 0.5, cosine=cosine)).step(-parameter.sum(), 1 / 3, retain_graph=False)
    assert parameter.item() == pytest.approx(rate)
