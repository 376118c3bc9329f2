"""AE-FLOW (Zhao et al. 2023), its flow alone, and its autoencoder alone."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from aeflow.core.types import AnomalyMap, Method
from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import BatchScores, Learner, Rows, Update, batches
from aeflow.models.aeflow import AEFlow, AEFlowOutput
from aeflow.models.components import (
    difference_map,
    enlarge,
    flow_scores,
    local_density,
    reconstruction_scores,
)
from aeflow.models.losses import flow_nll, reconstruction_loss, total_loss
from aeflow.study.settings import FitSettings


class Detector(Learner):
    """The model, on the source's device; `method` says which parts it has."""

    module: AEFlow

    def __init__(self, source: FeatureSource, settings: FitSettings, method: Method) -> None:
        self._source, self._settings = source, settings
        model = AEFlow(
            source.channels,
            source.side,
            source.stride,
            settings.flow if method.has_flow else None,
            settings.decoder if method.has_decoder else None,
            source.encoder if settings.encoder.finetune else None,
        )
        self.module = model.to(source.device).to(memory_format=torch.channels_last)
        training = settings.training
        self._forward: nn.Module = (
            torch.compile(self.module) if training.compile else self.module  # type: ignore[assignment]
        )
        self.updates = [
            Update(
                list(self.module.parameters()),
                training.lr,
                (training.beta1, 0.999),
                training.weight_decay,
                training.lr_schedule == "cosine",
                training.gradient_clip,
            )
        ]

    @torch.no_grad()
    def fit(self, train: Rows) -> None:
        """Fit the flow's standardisation, if there is one."""
        flow = self.module.flow
        if flow is not None and flow.standardisation is not None:
            parts = batches(train, self._settings.training.batch_size)
            flow.standardisation.fit(self._source.features(rows) for rows in parts)

    def losses(self, rows: Rows) -> Iterator[dict[str, Tensor]]:
        """Yield the loss of a batch, L_flow and L_recon, those there are."""
        source, settings, model = self._source, self._settings, self.module
        images = None if model.decoder is None else source.images(rows)
        half = settings.training.precision == "bfloat16"
        with torch.autocast(source.device.type, torch.bfloat16, enabled=half):
            out: AEFlowOutput = self._forward(source.features(rows, images))
        parts: dict[str, Tensor] = {}
        if model.flow is not None:
            nll = flow_nll(out.z, out.log_det, settings.loss.flow_scale)
            parts["flow_nll"] = nll.mean()
        if model.decoder is not None and images is not None and out.reconstruction is not None:
            target = model.decoder.target(images)
            parts["reconstruction"] = reconstruction_loss(target, out.reconstruction).mean()
        flow, reconstruction = parts.get("flow_nll"), parts.get("reconstruction")
        yield {"loss": total_loss(flow, reconstruction, settings.loss.alpha), **parts}

    @torch.inference_mode()
    def score(self, rows: Rows) -> BatchScores:
        """Return every score component and map of the model's parts."""
        images = self._source.images(rows)
        out: AEFlowOutput = self.module(self._source.features(rows, images))
        scores: dict[str, Tensor] = {}
        maps: dict[str, Tensor] = {}
        coarse, pixels = {}, None
        if self.module.flow is not None:
            scores |= flow_scores(out.z, out.log_det)
            density = local_density(out.z)
            maps[AnomalyMap.FLOW] = enlarge(density, images.shape[-1])
            coarse[AnomalyMap.FLOW.value] = density.cpu().numpy()
        if self.module.decoder is not None and out.reconstruction is not None:
            reconstruction = self.module.decoder.pixels(out.reconstruction)
            scores |= reconstruction_scores(images, reconstruction)
            maps[AnomalyMap.DIFFERENCE] = difference_map(images, reconstruction)
            pixels = reconstruction.permute(0, 2, 3, 1).cpu().numpy()
        return BatchScores(
            {str(name): values.cpu().double().numpy() for name, values in scores.items()},
            {str(name): values.cpu().numpy() for name, values in maps.items()},
            coarse,
            pixels,
        )
