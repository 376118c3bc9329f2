"""Adam, with torch's own arithmetic.

torch.optim.Adam imports torch's compiler as soon as it is used, a second of CPU time.
"""

import math

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from aeflow.methods.method import Update


class Adam:
    """The optimizer of an update."""

    def __init__(self, update: Update) -> None:
        self._update = update
        self._parameters = [each for each in update.parameters if each.requires_grad]
        self.state: dict[str, Tensor] = {}  # "<number>.<name>": what a resumed training needs
        for number, parameter in enumerate(self._parameters):
            self.state[f"{number}.step"] = torch.tensor(0.0)
            self.state[f"{number}.exp_avg"] = torch.zeros_like(parameter)
            self.state[f"{number}.exp_avg_sq"] = torch.zeros_like(parameter)

    def step(self, loss: Tensor, share: float, retain_graph: bool) -> None:
        """Change the parameters once.

        Args:
            loss: () of a batch.
            share: how much of the training is done, in [0, 1). The learning rate follows from it
                alone, so that a resumed training has the same.
            retain_graph: whether another loss needs this one's graph.
        """
        update = self._update
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward(retain_graph=retain_graph)  # type: ignore[no-untyped-call]
        if update.clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, update.clip)
        moved = {n: p.grad for n, p in enumerate(self._parameters) if p.grad is not None}
        with torch.no_grad():
            adam(
                [self._parameters[number] for number in moved],
                list(moved.values()),
                [self.state[f"{number}.exp_avg"] for number in moved],
                [self.state[f"{number}.exp_avg_sq"] for number in moved],
                [],
                [self.state[f"{number}.step"] for number in moved],
                lr=update.lr * (1 + math.cos(math.pi * share * update.cosine)) / 2,
                beta1=update.betas[0],
                beta2=update.betas[1],
                weight_decay=update.weight_decay,
                amsgrad=False,
                eps=1e-8,
                maximize=False,
            )
