"""AE-FLOW (Zhao et al. 2023), and its parts alone: flow, Gaussian, autoencoder."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from aeflow.core.types import Method
from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import BatchScores, Learner, Rows, Update, batches
from aeflow.models.aeflow import AEFlow, AEFlowOutput
from aeflow.models.decoder import Decoder, FeatureDecoder
from aeflow.models.losses import flow_nll, reconstruction_loss, total_loss
from aeflow.study.settings import FitSettings


class Detector(Learner):
    """The model, on the source's device; `method` says which parts it has.

    Attributes:
        stages: of z.
        target: the stage that a decoder of features reconstructs, None: there is none.
    """

    module: AEFlow

    def __init__(self, source: FeatureSource, settings: FitSettings, method: Method) -> None:
        self._source, self._settings = source, settings
        # A decoder has learned nothing before the first epoch, however good the flow is then.
        self.first_epoch = 1 if method.has_decoder else 0
        encoder, flow = settings.encoder, settings.flow
        if method == Method.GAUSSIAN:
            flow = flow.model_copy(update={"steps": 0, "standardise": "whiten"})
        self.stages = encoder.stages
        self.target = settings.target_stage if method.has_decoder else None
        model = AEFlow(
            [source.shapes[stage] for stage in encoder.stages],
            flow if method.has_flow else None,
            settings.gaussian,
            settings.maps,
            settings.decoder if method.has_decoder else None,
            source.shapes[self.target] if self.target else None,
            source.encoder if encoder.finetune else None,
        )
        self.module = model.to(source.device).to(memory_format=torch.channels_last)
        training = settings.training
        self._forward: nn.Module = (
            torch.compile(self.module) if training.compile else self.module  # type: ignore[assignment]
        )
        trained = list(self.module.parameters())
        self.updates = [
            Update(
                trained,
                training.lr,
                (training.beta1, 0.999),
                training.weight_decay,
                training.lr_schedule == "cosine",
                training.gradient_clip,
            )
        ][: len(trained)]  # a flow of no steps has nothing to train

    def _batches(self, rows: Rows) -> Iterator[tuple[list[Tensor], Tensor | None]]:
        """Yield the features of z's stages and of the target's, a batch at a time."""
        for batch in batches(rows, self._settings.training.batch_size):
            yield self._features(batch, None)

    def _features(self, rows: Rows, images: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
        found = self._source.features(rows, images)
        z = [found[stage] for stage in self.stages]
        return z, found[self.target] if self.target else None

    @torch.no_grad()
    def fit(self, train: Rows) -> None:
        """Fit what standardises z and the decoder's target, in one pass."""
        decoder = self.module.decoder
        fitted = [flow.standardisation for flow in self.module.each_flow]
        target = decoder.standardisation if isinstance(decoder, FeatureDecoder) else None
        if not any([*fitted, target]):
            return
        for z, features in self._batches(train):
            for standardisation, of in zip(fitted, z, strict=False):
                if standardisation is not None:
                    standardisation.add(of)
            if target is not None and features is not None:
                target.add(features)
        for standardisation in (*fitted, target):
            if standardisation is not None:
                standardisation.fit()

    @torch.no_grad()
    def complete(self, train: Rows, validation: Rows) -> None:
        """Fit the residual's whitening and the scales of the maps."""
        model = self.module
        if isinstance(model.decoder, FeatureDecoder):
            for z, features in self._batches(train):
                model.decoder.residual.add(model.residual(model(z), features))
            model.decoder.residual.fit()
        if model.scales:
            for z, _ in self._batches(validation):
                for scale, maps in zip(model.scales, model.stage_maps(model(z)), strict=True):
                    scale.add(maps)  # type: ignore[operator]
            for scale in model.scales:
                scale.fit()  # type: ignore[operator]

    def losses(self, rows: Rows) -> Iterator[dict[str, Tensor]]:
        """Yield the loss of a batch, L_flow and L_recon, those there are."""
        source, settings, model = self._source, self._settings, self.module
        images = source.images(rows) if isinstance(model.decoder, Decoder) else None
        half = uses_bfloat16(settings.training.precision, source.device)
        with torch.autocast(source.device.type, torch.bfloat16, enabled=half):
            z, features = self._features(rows, images)
            out: AEFlowOutput = self._forward(z)
        parts: dict[str, Tensor] = {}
        if model.each_flow:
            scale = settings.loss.flow_scale
            nll = [flow_nll(*each, scale).mean() for each in zip(out.z, out.log_det, strict=True)]
            parts["flow_nll"] = torch.stack(nll).mean()
        if model.decoder is not None and out.reconstruction is not None:
            seen = images if features is None else features
            assert seen is not None
            target = model.decoder.target(seen)
            parts["reconstruction"] = reconstruction_loss(target, out.reconstruction).mean()
        flow, reconstruction = parts.get("flow_nll"), parts.get("reconstruction")
        yield {"loss": total_loss(flow, reconstruction, settings.loss.alpha), **parts}

    @torch.inference_mode()
    def score(self, rows: Rows) -> BatchScores:
        """Return every score component and map of the model's parts."""
        pixels = isinstance(self.module.decoder, Decoder)
        images = self._source.images(rows) if pixels else None
        found = self.module.scores(*self._features(rows, images), images, self.top_shares)
        coarse = {name: each for name, each in found.coarse.items() if name in self.maps}
        maps, seen = found.maps(self.maps, self._source.image_side), found.reconstruction
        return BatchScores(
            {name: values.cpu().double().numpy() for name, values in found.components.items()},
            {name: values.cpu().numpy() for name, values in maps.items()},
            {name: values.cpu().numpy() for name, values in coarse.items()},
            None if seen is None else seen.permute(0, 2, 3, 1).cpu().numpy(),
        )


def uses_bfloat16(precision: Literal["float32", "bfloat16", "auto"], device: torch.device) -> bool:
    """Whether a training computes in bfloat16; by `auto` where that is faster than float32.

    A CPU without instructions for it computes it by way of float32, slower than that.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu = torch.cpu
    has = (cpu._is_avx512_bf16_supported, cpu._is_amx_tile_supported)  # in no public name
    return device.type == "cpu" and any(bool(supported()) for supported in has)
