"""Pictures as vectors, for probes: what a frozen model of any family makes of them.

Each family is read where a picture is one thing and no text is needed: a state that it pools
itself, or else the mean over the places of a picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from genvlm.data.images import RGBImage
from genvlm.errors import ConfigError, EvaluationError
from genvlm.models.auxiliary.coca import CoCaModel, load_coca
from genvlm.models.auxiliary.contrastive import ContrastiveModel, load_contrastive
from genvlm.models.auxiliary.llip import LlipModel, load_llip
from genvlm.models.auxiliary.masked import MaskedModel, load_masked
from genvlm.models.auxiliary.projector import PatchProjector, ProjectorModel
from genvlm.models.auxiliary.projector_folder import load_projector
from genvlm.models.diffusion.model import DiffusionModel
from genvlm.models.diffusion.network import DiT
from genvlm.models.diffusion.open import open_diffusion
from genvlm.models.pretrained import PretrainedModel, load_pretrained
from genvlm.models.text_only import build_language
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.scoring.autoregressive import Likelihood
from genvlm.scoring.contrastive import ForeignEmbedder
from genvlm.scoring.open import model_kind
from genvlm.scoring.transformers_folder import load_foreign
from genvlm.tokenization.document import Image
from genvlm.tokenization.image import fit_square
from genvlm.tokenization.vocabulary import Modality

PIXEL_SIDE = 32
_BATCH = 32

Read = Callable[[Sequence[RGBImage]], Float[Tensor, "images dims"]]


@dataclass(frozen=True, kw_only=True)
class ImageFeatures:
    """What a probe reads; nothing in it is trained."""

    name: str
    """Which states, in words."""
    fingerprint: str
    """sha256 over the model and the name."""
    read: Read
    """A few pictures at a time."""

    def features(self, images: Sequence[RGBImage]) -> Float32[np.ndarray, "images dims"]:
        """One vector a picture. Raises EvaluationError: one that is not finite."""
        parts = []
        with torch.no_grad():
            for start in range(0, len(images), _BATCH):
                parts.append(self.read(images[start : start + _BATCH]).float().cpu().numpy())
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise EvaluationError(
                f"{self.name} of picture {int(np.argmax(~np.isfinite(found).all(1)))} is not "
                "finite: the model is damaged"
            )
        return found


def open_features(folder: str | Path, device: str = "cpu") -> ImageFeatures:
    """Features of any model folder that reads pictures.

    Raises:
        ConfigError: a model that gives no features here: a U-Net, or one of transformers that
            writes text.
        CheckpointError: no model there.
    """
    path, kind = Path(folder), model_kind(folder)
    match kind:
        case "mixed_modal":
            return transformer_features(load_pretrained(path, device=device))
        case "contrastive":
            return pooled_features(load_contrastive(path, device))
        case "llip":
            return llip_features(load_llip(path, device))
        case "masked":
            return pooled_features(load_masked(path, device))
        case "coca":
            return coca_features(load_coca(path, device))
        case "projector":
            return projector_features(load_projector(path, build_language, device))
        case "diffusion":
            return diffusion_features(open_diffusion(path, device))
        case "foreign_contrastive":
            embedder = ForeignEmbedder(load_foreign(folder, "contrastive", device=device))
            return _features("image embedding", embedder.settings["model"], embedder.embed_images)
        case _:
            raise ConfigError(
                f"{folder} holds a model of kind {kind}, which gives no features of a picture "
                "here: choose a model folder of genvlm or one such as CLIP"
            )


def transformer_features(
    pretrained: PretrainedModel, num_blocks: int | None = None
) -> ImageFeatures:
    """Mean state of BOI and the codes in front of which nothing stands, behind the middle block.

    The last states are about the next code alone; where features are best was measured
    (docs/probes.md), as Chen et al. 2020 (iGPT, section 4.1) did.

    Args:
        num_blocks: how many blocks have read it; half of them by default.
    """
    model, likelihood = pretrained.model, Likelihood(pretrained)
    num_blocks = num_blocks or -(-model.config.num_layers // 2)

    def read(images: Sequence[RGBImage]) -> Tensor:
        documents = [
            likelihood.encode([Image(codes)]) for codes in pretrained.encode_images(images)
        ]
        device = model.embedding.weight.device

        def padded(columns: Sequence[np.ndarray]) -> Tensor:
            rows = [torch.from_numpy(np.asarray(column)) for column in columns]
            return pad_sequence(rows, batch_first=True).to(device)

        token_ids = padded([d.token_ids.astype(np.int64) for d in documents])[:, :-1]
        positions = padded([d.positions.astype(np.int64) for d in documents])
        shown = padded([d.modality == Modality.IMAGE for d in documents])[:, :-1]
        shown |= token_ids == pretrained.vocabulary.boi
        states = model(token_ids, positions=positions, num_blocks=num_blocks, last_norm=False)
        return _mean(states, shown)

    name = f"mean state of BOI and codes behind block {num_blocks} of {model.config.num_layers}"
    return _features(name, pretrained.fingerprint, read)


def pooled_features(model: ContrastiveModel | MaskedModel) -> ImageFeatures:
    """Mean state of the patches, which is projected into the space shared with texts."""

    def read(images: Sequence[RGBImage]) -> Tensor:
        states: Tensor = model.network.image_encoder(model.pixels(images))
        return states.mean(1)

    return _features("mean state of patches", model.fingerprint, read)


def llip_features(model: LlipModel) -> ImageFeatures:
    """Mean of the mixture tokens: a picture as no text sees it."""
    return _features(
        "mean mixture token",
        model.fingerprint,
        lambda images: model.network.read_images(model.pixels(images)).mean(1),
    )


def coca_features(model: CoCaModel) -> ImageFeatures:
    """What the pooler of the embedding makes of a picture, before it is projected."""
    network = model.network

    def read(images: Sequence[RGBImage]) -> Tensor:
        pooled = network.pooler(network.image_encoder(model.pixels(images)))
        states: Tensor = network.embedding_pooler(pooled)
        return states[:, 0]

    return _features("pooled state of the embedding", model.fingerprint, read)


def projector_features(model: ProjectorModel) -> ImageFeatures:
    """Mean of the vectors that the language model reads."""
    what = "patch" if isinstance(model.projector, PatchProjector) else "query"
    return _features(
        f"mean projected {what}", model.fingerprint, lambda images: model.project(images).mean(1)
    )


def diffusion_features(model: DiffusionModel, *, seed: int = 0) -> ImageFeatures:
    """Mean state of the patches behind the middle block, of a slightly noised picture and no text.

    (Xiang et al. 2023, arXiv 2303.09769.) All pictures get the same noise, at a tenth of the
    schedule.

    Raises:
        ConfigError: the network is no DiT.
    """
    network = model.denoiser.network
    if not isinstance(network, DiT):
        raise ConfigError(
            "features of a diffusion model are states of the blocks of a DiT, and this one is a "
            f"{type(network).__name__}: choose a model with a DiT"
        )
    depth = len(network.model.transformer_blocks)  # type: ignore[arg-type]
    num_blocks, level = -(-depth // 2), len(model.schedule) // 10
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(model.latents.shape, generator=generator)
    time = float(model.schedule.times[level])

    def read(images: Sequence[RGBImage]) -> Tensor:
        latents = model.latents.encode(images).to(model.dtype)
        levels = torch.full((len(images),), level)
        x_t = model.schedule.add_noise(latents, noise.to(latents).expand_as(latents), levels)
        text = model.read([""]).take(
            torch.zeros(len(images), dtype=torch.long, device=model.device)
        )
        times = torch.full((len(images),), time, device=model.device)
        x_t = x_t.to(model.device)
        return network.states(x_t, times, text.states, text.mask, num_blocks).mean(1)

    name = (
        f"mean state of patches behind block {num_blocks} of {depth}, at noise level {level} of "
        f"{len(model.schedule)}, noise of seed {seed}"
    )
    return _features(name, model.fingerprint, read)


def pixel_features(side: int = PIXEL_SIDE) -> ImageFeatures:
    """The baseline that knows nothing: pixels of pictures scaled to fit a white square."""

    def read(images: Sequence[RGBImage]) -> Tensor:
        rows = [fit_square(image, side).reshape(-1) for image in images]
        return torch.from_numpy(np.stack(rows)) / 255

    return _features(f"{side}x{side} pixels", "", read)


def _features(name: str, model: object, read: Read) -> ImageFeatures:
    return ImageFeatures(name=name, fingerprint=fingerprint_of([name, model]), read=read)


def _mean(states: Float[Tensor, "images tokens dims"], shown: Tensor) -> Tensor:
    weights = shown[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
