"""GANomaly (Akcay et al. 2018): anomalib's networks and losses on the images themselves."""

from collections.abc import Iterator

import torch
from anomalib.models.image.ganomaly.loss import DiscriminatorLoss, GeneratorLoss
from anomalib.models.image.ganomaly.torch_model import GanomalyModel
from torch import Tensor
from torch.nn import functional as F

from aeflow.core.types import IMAGENET_MEAN, IMAGENET_SD, Method
from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import BatchScores, Learner, Rows, Update, one_score
from aeflow.study.settings import FitSettings

# As anomalib's Ganomaly.
LR, BETAS, FEATURES, LATENT = 2e-4, (0.5, 0.999), 64, 100
# Sides are powers of two. Networks double their width with every doubling of the side: at 256
# pixels they have 189 million parameters and take hours on a CPU, at 64 pixels 13 million.
LARGEST_SIDE = 64


class Detector(Learner):
    """Encoder, decoder, encoder and a discriminator, on the source's device; no features."""

    def __init__(self, source: FeatureSource, settings: FitSettings, method: Method) -> None:
        self._source, self.name = source, method.value
        self.side = min(LARGEST_SIDE, 2 ** (source.image_side.bit_length() - 1))
        self.module = GanomalyModel((self.side, self.side), 3, FEATURES, LATENT).to(source.device)
        self._generator_loss, self._discriminator_loss = GeneratorLoss(), DiscriminatorLoss()
        parts = (self.module.generator, self.module.discriminator)
        self.updates = [Update(list(part.parameters()), LR, BETAS) for part in parts]

    def images(self, rows: Rows) -> Tensor:
        """Return images as anomalib normalises them, (B, 3, side, side)."""
        images = self._source.images(rows).contiguous()
        if images.shape[-1] != self.side:
            size = (self.side, self.side)
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        mean, sd = (images.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_SD))
        return (images - mean) / sd

    def losses(self, rows: Rows) -> Iterator[dict[str, Tensor]]:
        """Yield the generator's loss, then the discriminator's, as anomalib's training_step."""
        real = self.images(rows)
        fake, latent_in, latent_out = self.module.generator(real)
        pred_real, _ = self.module.discriminator(real)
        pred_fake, _ = self.module.discriminator(fake)
        loss = self._generator_loss(latent_in, latent_out, real, fake, pred_real, pred_fake)
        yield {"loss": loss}
        pred_fake, _ = self.module.discriminator(fake.detach())
        yield {"loss": self._discriminator_loss(pred_real, pred_fake)}

    @torch.inference_mode()
    def score(self, rows: Rows) -> BatchScores:
        """Return the mean squared difference of both latent vectors; there is no map."""
        return one_score(self.name, self.module(self.images(rows)).pred_score)
