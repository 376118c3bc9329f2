"""The pretrained encoder x -> z: frozen and in eval mode unless it is fine-tuned.

timm and torchvision take two seconds to import, so they are only where a backbone is built.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from aeflow.core.errors import ConfigError
from aeflow.core.tensors import read_facts
from aeflow.core.types import IMAGENET_MEAN, IMAGENET_SD


class Encoder(nn.Module):
    """Stages of a backbone, with the normalisation of pixels that it was trained with.

    `stages` and `channels` describe its outputs: (B, 3, H, W) in [0, 1] -> for each stage
    (B, channels, H / stride, W / stride), stride 2^(stage + 1). `body` returns them as a list.
    """

    mean: Tensor
    sd: Tensor

    def __init__(
        self,
        body: nn.Module,
        stages: Sequence[int],
        channels: Sequence[int],
        mean: Iterable[float] = IMAGENET_MEAN,
        sd: Iterable[float] = IMAGENET_SD,
        finetune: bool = False,
    ) -> None:
        super().__init__()
        self.body = body
        self.stages, self.channels, self.finetune = list(stages), list(channels), finetune
        self.register_buffer("mean", torch.tensor(list(mean)).view(3, 1, 1), persistent=False)
        self.register_buffer("sd", torch.tensor(list(sd)).view(3, 1, 1), persistent=False)
        self.requires_grad_(finetune)
        self.train(finetune)

    def train(self, mode: bool = True) -> "Encoder":
        """Set the mode; a frozen encoder stays in eval mode, BatchNorm too."""
        super().train(mode and self.finetune)
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return z of each stage, of images x in [0, 1]."""
        with torch.set_grad_enabled(self.finetune and torch.is_grad_enabled()):
            z: list[Tensor] = self.body((x - self.mean) / self.sd)
        return z


def stride_of(stage: int) -> int:
    """Return the pixels from one position of a stage to the next."""
    return int(2 ** (stage + 1))


def load_encoder(weights: Path, stages: Sequence[int], finetune: bool = False) -> Encoder:
    """Build an encoder from the file that `fetch_weights` wrote; no random number is drawn.

    Raises:
        ConfigError: the architecture lacks one of the stages.
    """
    return build_encoder(read_facts(weights), load_file(weights), stages, finetune)


def build_encoder(
    facts: Mapping[str, str],
    weights: Mapping[str, Tensor],
    stages: Sequence[int],
    finetune: bool = False,
) -> Encoder:
    """Build an encoder from the content of such a file; see `load_encoder`.

    Args:
        weights: of the layers up to the last of the stages; others may be there.
    """
    cut = _TimmMaps if facts["library"] == "timm" else _TorchvisionMaps
    # The libraries start from random weights. A flow that is built afterwards must not depend on
    # whether its features came from the cache.
    with torch.random.fork_rng(devices=[]):
        model = create_backbone(facts["library"], facts["architecture"])
    ends = {stride_of(stage): stage for stage in range(1, 7)}
    found = {ends[stride]: end for stride, end in cut.ends(model).items() if stride in ends}
    for stage in stages:
        if stage not in found:
            raise ConfigError(
                f"encoder.stages: {facts['architecture']} has the stages "
                f"{', '.join(map(str, sorted(found)))}, not {stage}."
            )
    body = cut(model, [found[stage][0] for stage in stages])
    own = body.model.state_dict()
    body.model.load_state_dict({name: weights[name] for name in weights if name in own})
    mean, sd = json.loads(facts["mean"]), json.loads(facts["sd"])
    return Encoder(body, stages, [found[stage][1] for stage in stages], mean, sd, finetune)


def library_of(architecture: str, libraries: Iterable[str] = ("timm", "torchvision")) -> str:
    """Return the first of the libraries that has an architecture.

    Raises:
        ConfigError: none has it; names the closest ones.
    """
    import timm
    import torchvision

    known = {
        "timm": timm.list_models(),
        "torchvision": torchvision.models.list_models(module=torchvision.models),
    }
    for library in libraries:
        if architecture in known[library]:
            return library
    names = {name for library in libraries for name in known[library]}
    close = get_close_matches(architecture, sorted(names))
    hint = f"did you mean {' or '.join(close)}?" if close else "see timm.list_models()."
    raise ConfigError(
        f"encoder.name: there is no '{architecture}' in {' or '.join(libraries)}; {hint}"
    )


def create_backbone(library: str, architecture: str, pretrained: bool = False) -> Any:
    """Return a library's model, with random weights or with the library's own."""
    if library == "torchvision":
        import torchvision

        return torchvision.models.get_model(
            architecture, weights="DEFAULT" if pretrained else None
        )
    import timm

    try:  # transformers: images of any size; their position embeddings are interpolated
        return timm.create_model(architecture, pretrained, dynamic_img_size=True)
    except TypeError:  # convolutional networks have no such argument and no such limit
        return timm.create_model(architecture, pretrained)


class _TimmMaps(nn.Module):
    """Maps of a timm model, without the layers that come after the last."""

    @staticmethod
    def ends(model: Any) -> dict[int, tuple[Any, int]]:
        """Return the number and the channels of the last map of each stride: ends of stages."""
        info = enumerate(model.feature_info)
        return {each["reduction"]: (number, each["num_chs"]) for number, each in info}

    def __init__(self, model: Any, numbers: list[int]) -> None:
        super().__init__()
        self.model = model
        self.numbers = model.prune_intermediate_layers(numbers, prune_norm=True)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model.forward_intermediates(
            x, indices=self.numbers, intermediates_only=True
        )
        return maps


class _TorchvisionMaps(nn.Module):
    """Maps of a torchvision model, without the layers that come after the last."""

    @staticmethod
    def ends(model: nn.Module) -> dict[int, tuple[Any, int]]:
        """Return the name and the channels of the last block of each stride.

        Blocks are the modules at most two levels deep: inside a block there may be maps that have
        the stride of the stage before, `layer4.0.relu` of a ResNet for one.
        """
        side, found = 256, dict[int, tuple[Any, int]]()

        def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def note(_: nn.Module, __: Any, out: Any) -> None:
                if isinstance(out, Tensor) and out.ndim == 4:
                    found[side // out.shape[3]] = name, out.shape[1]

            return note

        with ExitStack() as hooks, torch.no_grad():
            for name, module in model.eval().named_modules():
                if name and name.count(".") < 2:
                    hooks.enter_context(module.register_forward_hook(watch(name)))
            model(torch.zeros(1, 3, side, side))
        return found

    def __init__(self, model: nn.Module, nodes: list[str]) -> None:
        from torchvision.models.feature_extraction import create_feature_extractor

        super().__init__()
        self.model = create_feature_extractor(model, nodes)

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.model(x).values())
