"""GANomaly (Akcay et al. 2018): anomalib's networks and losses on the images themselves."""

import torch
from anomalib.models.image.ganomaly.loss import DiscriminatorLoss, GeneratorLoss
from anomalib.models.image.ganomaly.torch_model import GanomalyModel
from torch import Tensor
from torch.nn import functional as F

from aeflow.core.types import IMAGENET_MEAN, IMAGENET_SD
from aeflow.encoder.features import FeatureSource
from aeflow.methods.method import Fitted, Rows, Scored, fit_epochs
from aeflow.study.settings import TrainingSettings

# As anomalib's Ganomaly.
LR, BETAS, FEATURES, LATENT = 2e-4, (0.5, 0.999), 64, 100
# Sides are powers of two. Networks double their width with every doubling of the side: at 256
# pixels they have 189 million parameters and take hours on a CPU, at 64 pixels 13 million.
LARGEST_SIDE = 64


class Ganomaly:
    """Encoder, decoder, encoder and a discriminator, on the source's device; no features."""

    def __init__(self, source: FeatureSource, training: TrainingSettings) -> None:
        self._source, self._training = source, training
        image_side = source.side * source.stride
        self.side = min(LARGEST_SIDE, 2 ** (image_side.bit_length() - 1))
        self.model = GanomalyModel((self.side, self.side), 3, FEATURES, LATENT).to(source.device)
        self._generator_loss, self._discriminator_loss = GeneratorLoss(), DiscriminatorLoss()
        self._generator, self._discriminator = (
            torch.optim.Adam(part.parameters(), lr=LR, betas=BETAS)
            for part in (self.model.generator, self.model.discriminator)
        )

    def images(self, rows: Rows) -> Tensor:
        """Return images as anomalib normalises them, (B, 3, side, side)."""
        images = self._source.images(rows).contiguous()
        if images.shape[-1] != self.side:
            size = (self.side, self.side)
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        mean, sd = (images.new_tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_SD))
        return (images - mean) / sd

    def fit(self, train: Rows, validation: Rows, seed: int) -> Fitted:
        """Train with anomalib's optimizers; the generator's loss chooses the epoch."""
        return fit_epochs(
            self.model,
            self._step,
            lambda rows: self._losses(rows)[0].item(),
            self._training,
            seed,
            train,
            validation,
        )

    def _losses(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Return the generator's loss, the generated images and the verdict on the real ones."""
        real = self.images(rows)
        fake, latent_in, latent_out = self.model.generator(real)
        pred_real, _ = self.model.discriminator(real)
        pred_fake, _ = self.model.discriminator(fake)
        loss = self._generator_loss(latent_in, latent_out, real, fake, pred_real, pred_fake)
        return loss, fake, pred_real

    def _step(self, rows: Rows) -> float:
        """Update the generator, then the discriminator, as anomalib's training_step."""
        loss, fake, pred_real = self._losses(rows)
        self._generator.zero_grad()
        loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        self._generator.step()
        pred_fake, _ = self.model.discriminator(fake.detach())
        self._discriminator.zero_grad()
        self._discriminator_loss(pred_real, pred_fake).backward()
        self._discriminator.step()
        return loss.item()

    @torch.inference_mode()
    def score(self, rows: Rows) -> Scored:
        """Return the mean squared difference of both latent vectors; there is no map."""
        return Scored(self.model(self.images(rows)).pred_score, None)
