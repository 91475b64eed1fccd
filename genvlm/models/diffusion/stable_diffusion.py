"""Stable Diffusion 1.5 and 2.x: folders of diffusers' StableDiffusionPipeline, read part by part.

The pipeline itself never runs, nothing is downloaded, no code of the folder runs, and weights are
read from safetensors only. B batch, N texts, T tokens, D width of the text encoder.
"""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genvlm.errors import CheckpointError, CheckpointWarning, TokenError
from genvlm.models.diffusion.latents import load_kl
from genvlm.models.diffusion.model import Denoiser, DiffusionModel
from genvlm.models.diffusion.schedule import NoiseSchedule, Prediction, schedule_of
from genvlm.models.foreign import (
    import_diffusers,
    import_transformers,
    load_part,
    load_tokenizer,
    meant,
    read_config,
)
from genvlm.models.text_encoder import FrozenTextEncoder, refuse_controls
from genvlm.nn.devices import move_to
from genvlm.nn.safetensors_folder import fingerprint_of, fingerprint_tensors

DType = Literal["float32", "bfloat16", "float16"]

_INDEX, _PIPELINE = "model_index.json", "StableDiffusionPipeline"
_PARTS = {
    "unet": "diffusers.UNet2DConditionModel",
    "vae": "diffusers.AutoencoderKL",
    "text_encoder": "transformers.CLIPTextModel",
    "tokenizer": "transformers.CLIPTokenizer",
    "scheduler": "diffusers.",  # any of them: its betas are read, and it never steps
}
_LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
# Of a UNet's configuration: further inputs, which Stable Diffusion 1 and 2 do not have.
_INPUTS = (
    "class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type",
    "time_cond_proj_dim",
)  # fmt: skip
_SCHEDULE = (
    "num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "trained_betas",
    "rescale_betas_zero_snr", "prediction_type",
)  # fmt: skip
_CONDITION_DROPOUT = 0.1  # of the published models, in their cards


class StableDiffusionUNet(nn.Module):
    """diffusers' UNet2DConditionModel, which reads padding like any token and so takes no mask."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x_t: Float[Tensor, "batch c h w"],
        times: Float[Tensor, " batch"],
        states: Float[Tensor, "batch tokens dim"],
        mask: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch c h w"]:
        """The prediction, of x_t's dtype; computed in that of the weights."""
        dtype = self.model.dtype
        predicted: Tensor = self.model(x_t.to(dtype), times, states.to(dtype)).sample
        return predicted.to(x_t.dtype)


class ClipCoder:
    """CLIP's tokenizer; every text is padded to the encoder's whole context."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        rules = json.loads(tokenizer.backend_tokenizer.to_str())
        # What the last call asked for is no part of the rules.
        rules |= {"padding": None, "truncation": None}
        self.fingerprint = fingerprint_of(["clip", rules, tokenizer.pad_token, max_tokens])

    def encode(
        self, texts: Sequence[str]
    ) -> tuple[Int[Tensor, "texts tokens"], Bool[Tensor, "texts tokens"]]:
        """Pieces with their begin, end and padding, all of which are read.

        Raises:
            TokenError: a text is too long, or spells the begin or the end.
        """
        refuse_controls(texts, (self.tokenizer.bos_token, self.tokenizer.eos_token))
        rows = self.tokenizer(
            list(texts), padding="max_length", max_length=self.max_tokens, truncation=False,
            verbose=False,
        )["input_ids"]  # fmt: skip
        for text, row in zip(texts, rows, strict=True):
            if len(row) > self.max_tokens:
                raise TokenError(
                    f"{text[:60]!r} has {len(row)} tokens with begin and end, and the text encoder "
                    f"takes {self.max_tokens}: shorten it"
                )
        pieces = torch.tensor(rows, dtype=torch.long).reshape(len(rows), self.max_tokens)
        return pieces, torch.ones_like(pieces, dtype=torch.bool)


def is_stable_diffusion(folder: Path) -> bool:
    """Whether this is a folder of a diffusers pipeline; loading says whether it can be read."""
    return (folder / _INDEX).is_file()


def load_stable_diffusion(
    folder: Path, device: str | torch.device = "cpu", dtype: DType = "float32"
) -> DiffusionModel:
    """Read a folder of StableDiffusionPipeline; in eval mode, without gradients.

    Args:
        dtype: of the UNet; text encoder and autoencoder are small beside it and stay in float32.

    Raises:
        CheckpointError: another pipeline, an unknown component, Python code, pickled weights alone,
            a part missing or not fitting the others, no scaling_factor of the latents.
        ConfigError: diffusers or transformers is not installed, or there is no such device.
    """
    _check_folder(folder)
    configs = {name: read_config(folder / name) for name in ("unet", "vae", "text_encoder")}
    side = _check_fit(folder, configs)
    scheduler = read_config(folder / "scheduler", "scheduler_config.json")
    schedule, prediction = _read_schedule(scheduler, folder / "scheduler")
    diffusers, transformers = import_diffusers(), import_transformers()
    latents = load_kl(folder / "vae", side)
    texts = _load_tokenizer(folder / "tokenizer", configs["text_encoder"])
    unet = StableDiffusionUNet(load_part(diffusers.UNet2DConditionModel, folder / "unet"))
    encoder = load_part(transformers.CLIPTextModel, folder / "text_encoder")
    denoiser = Denoiser(unet.to(getattr(torch, dtype)), FrozenTextEncoder(encoder))
    payload = {
        "pipeline": _PIPELINE,
        "weights": fingerprint_tensors(denoiser.state_dict()),
        "unet": meant(configs["unet"]),
        "text_encoder": meant(configs["text_encoder"]),
        "schedule": {name: scheduler.get(name) for name in _SCHEDULE},
        "latents": latents.fingerprint,
        "texts": texts.fingerprint,
    }
    move_to(latents.autoencoder, device)
    return DiffusionModel(
        denoiser=denoiser.eval().requires_grad_(False),
        schedule=schedule,
        prediction=prediction,
        latents=latents,
        texts=texts,
        condition_dropout=_CONDITION_DROPOUT,
        fingerprint=fingerprint_of(payload),
    ).to(device)


def _check_folder(folder: Path) -> None:
    """Raises CheckpointError: another pipeline, Python code, or weights as pickles alone."""
    index = read_config(folder, _INDEX)
    if index.get("_class_name") != _PIPELINE:
        raise CheckpointError(
            f"{folder} is a pipeline of class {index.get('_class_name')!r}: only {_PIPELINE} "
            "(Stable Diffusion 1.5 and 2.x) is supported"
        )
    if code := sorted(folder.rglob("*.py")):
        raise CheckpointError(
            f"{folder} holds Python code ({code[0].relative_to(folder)}), and none of a folder "
            "runs here: use a pipeline of diffusers' own parts"
        )
    _check_components(folder, index)
    for name in ("unet", "vae", "text_encoder"):
        files = sorted(path.name for path in (folder / name).glob("*"))
        pickles = [file for file in files if file.endswith(_PICKLES)]
        if pickles and not any(file.endswith(".safetensors") for file in files):
            raise CheckpointError(
                f"{folder / name} has its weights as a pickle alone ({pickles[0]}), which could "
                "run code: save them as safetensors"
            )


def _check_components(folder: Path, index: dict[str, Any]) -> None:
    """Raises CheckpointError: an unknown one, or one of another class; warns of those unread."""
    components = {
        name: ".".join(map(str, value))
        for name, value in index.items()
        if isinstance(value, list) and value != [None, None]
    }
    for name, found in components.items():
        if name not in (*_PARTS, *_LEFT_OUT):
            raise CheckpointError(
                f"{folder} has a component {name!r} ({found}), which is unknown here: use a "
                "pipeline without it"
            )
    for name, cls in _PARTS.items():
        found = components.get(name, "missing")
        if not (found == cls or (name == "scheduler" and found.startswith(cls))):
            raise CheckpointError(
                f"the component {name!r} of {folder} is {found}: only {cls} is supported"
            )
    if unread := [name for name in _LEFT_OUT if name in components]:
        warnings.warn(
            f"{', '.join(unread)} of {folder} stay unread: no picture is filtered or otherwise "
            "looked at by them",
            CheckpointWarning,
            stacklevel=4,
        )


def _check_fit(folder: Path, configs: dict[str, dict[str, Any]]) -> int:
    """Side of the pictures in pixels. Raises CheckpointError: the parts do not fit each other."""
    unet, vae, text = configs["unet"], configs["vae"], configs["text_encoder"]
    if further := [name for name in _INPUTS if unet.get(name) is not None]:
        raise CheckpointError(
            f"the unet of {folder} takes an input that Stable Diffusion 1 and 2 do not give "
            f"({further[0]}): use a pipeline without it"
        )
    channels = {unet.get("in_channels"), unet.get("out_channels"), vae.get("latent_channels")}
    if len(channels) > 1:
        raise CheckpointError(
            f"the unet of {folder} takes {unet.get('in_channels')} channels and gives "
            f"{unet.get('out_channels')}, and a latent has {vae.get('latent_channels')}: use a "
            "model from text to image, none of inpainting or depth"
        )
    if unet.get("cross_attention_dim") != text.get("hidden_size"):
        raise CheckpointError(
            f"the unet of {folder} reads texts of width {unet.get('cross_attention_dim')}, and its "
            f"text encoder gives {text.get('hidden_size')}: copy the folder again"
        )
    size, blocks = unet.get("sample_size"), vae.get("block_out_channels")
    if not isinstance(size, int) or size < 1 or not isinstance(blocks, list) or not blocks:
        raise CheckpointError(
            f"{folder} does not say how large a picture is: its unet needs a sample_size of 1 or "
            "more and its vae block_out_channels"
        )
    return int(size * 2 ** (len(blocks) - 1))


def _load_tokenizer(folder: Path, text_encoder: dict[str, Any]) -> ClipCoder:
    read_config(folder, "tokenizer_config.json")  # no code of its own
    tokenizer = load_tokenizer(import_transformers().CLIPTokenizer, folder)
    limit = text_encoder.get("max_position_embeddings", 77)
    if not isinstance(limit, int):
        raise CheckpointError(
            f"the text encoder of {folder.parent} has max_position_embeddings {limit!r}, which is "
            "no whole number: copy the folder again"
        )
    return ClipCoder(tokenizer, min(limit, tokenizer.model_max_length))


def _read_schedule(config: dict[str, Any], folder: Path) -> tuple[NoiseSchedule, Prediction]:
    """The betas that it was trained with, and what it predicts."""
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise CheckpointError(
            f"{folder} predicts {prediction!r}: only epsilon and v_prediction are supported"
        )
    trained, kind = config.get("trained_betas"), config.get("beta_schedule")
    try:
        if trained is not None:
            betas = np.array(trained, np.float64)
        else:
            power = {"linear": 1.0, "scaled_linear": 0.5}[str(kind)]
            ends = (config["beta_start"] ** power, config["beta_end"] ** power)
            betas = np.linspace(*ends, config["num_train_timesteps"]) ** (1 / power)
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"{folder} says no betas: scheduler_config.json needs trained_betas, or beta_start, "
            "beta_end, num_train_timesteps and beta_schedule linear or scaled_linear"
        ) from None
    if betas.ndim != 1 or len(betas) < 2 or not ((betas > 0) & (betas < 1)).all():
        raise CheckpointError(
            f"{folder} needs 2 or more betas, each between 0 and 1: copy its scheduler_config.json "
            "from the release"
        )
    alphas = np.cumprod(1 - betas)
    if config.get("rescale_betas_zero_snr"):  # Lin et al. 2024, arXiv 2305.08891, algorithm 1
        roots = np.sqrt(alphas)
        alphas = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    return schedule_of(alphas), prediction
