"""Projectors onto tiny frozen models, and these as folders."""

from pathlib import Path
from typing import Any, Literal

import torch

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.data import CaptionsSource
from genvlm.config.image_encoder import (
    ForeignPatchesConfig,
    OwnPatchesConfig,
    SmallImageEncoderConfig,
    VQPatchesConfig,
)
from genvlm.config.projector import (
    ForeignLanguageConfig,
    LanguageConfig,
    OwnLanguageConfig,
    ProjectorConfig,
    ProjectorTrainConfig,
    QueriesConfig,
    SeeingConfig,
)
from genvlm.config.training import OptimizerConfig
from genvlm.models.auxiliary.contrastive import CONTRASTIVE
from genvlm.models.auxiliary.projector import (
    ProjectorModel,
    QueryProjector,
    assemble_projector,
    build_projector,
)
from genvlm.models.auxiliary.seeing import build_seeing
from genvlm.models.pretrained import save_pretrained
from genvlm.models.text_only import build_language
from genvlm.testing.foreign_models import tiny_tokenizer
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_pretrained, write_tiny_captions
from genvlm.testing.tiny_auxiliary import tiny_contrastive_config, tiny_dual_encoder

LanguageKind = Literal["llama", "gpt2", "genvlm"]
PatchKind = Literal["clip", "siglip", "vqgan", "small", "own"]
ProjectorKind = Literal["linear", "mlp", "queries"]

TINY_QUERIES = QueriesConfig(num_queries=3, hidden_size=8, num_layers=2, num_heads=2)
_CONTEXT = 64
# Large, so that predictions differ.
_STD = 0.3


def write_tiny_language_model(
    folder: Path, kind: Literal["llama", "gpt2"] = "llama", *, seed: int = 0
) -> Path:
    """A random LlamaForCausalLM or GPT2LMHeadModel of width 16 with a tokenizer of whole words.

    Llama's puts `<s>` in front of a text, GPT-2's nothing.
    """
    import transformers

    tokenizer = tiny_tokenizer(bos=kind == "llama")
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if kind == "llama":
        cls: Any = transformers.LlamaForCausalLM
        config: Any = transformers.LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=_CONTEXT, **ids,
        )  # fmt: skip
    else:
        cls = transformers.GPT2LMHeadModel
        config = transformers.GPT2Config(
            vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=_CONTEXT, **ids
        )
    _save_random(cls, config, folder, seed)
    tokenizer.save_pretrained(folder)
    return folder


def write_tiny_vision_model(
    folder: Path, kind: Literal["clip", "siglip"] = "clip", *, seed: int = 0
) -> Path:
    """A random CLIPVisionModel or SiglipVisionModel of width 16: 16 patches of 16x16 pictures."""
    import transformers

    name = {"clip": "CLIP", "siglip": "Siglip"}[kind]
    config = getattr(transformers, f"{name}VisionConfig")(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        image_size=16, patch_size=4,
    )  # fmt: skip
    _save_random(getattr(transformers, f"{name}VisionModel"), config, folder, seed)
    getattr(transformers, f"{name}ImageProcessorPil")().save_pretrained(folder)
    return folder


def tiny_projector_config(
    folder: Path,
    language: LanguageKind = "llama",
    patches: PatchKind = "vqgan",
    *,
    projector: ProjectorKind = "mlp",
    seed: int = 0,
) -> ProjectorConfig:
    """Its frozen models are written into `folder`."""
    speaking: LanguageConfig
    if language == "genvlm":
        save_pretrained(tiny_pretrained(seed=seed), folder / "language", "A toy.\n")
        speaking = OwnLanguageConfig(path=str(folder / "language"))
    else:
        path = write_tiny_language_model(folder / "language", language, seed=seed)
        speaking = ForeignLanguageConfig(path=str(path))
    seeing: SeeingConfig
    if patches == "small":
        seeing = SmallImageEncoderConfig(
            side=16, patch_size=4, hidden_size=16, num_layers=1, num_heads=2
        )
    elif patches == "vqgan":
        tiny_image_tokenizer(seed=seed).save(folder / "image")
        seeing = VQPatchesConfig(path=str(folder / "image"))
    elif patches == "own":
        built = tiny_dual_encoder(seed=seed)
        CONTRASTIVE.save(tiny_contrastive_config(), built, folder / "image", "A toy.\n")
        seeing = OwnPatchesConfig(path=str(folder / "image"))
    else:
        path = write_tiny_vision_model(folder / "image", patches, seed=seed)
        seeing = ForeignPatchesConfig(path=str(path))
    return ProjectorConfig(
        image_encoder=seeing,
        language_model=speaking,
        projector=projector,
        queries=TINY_QUERIES if projector == "queries" else None,
    )


def tiny_projector(
    folder: Path,
    language: LanguageKind = "llama",
    patches: PatchKind = "vqgan",
    *,
    projector: ProjectorKind = "mlp",
    seed: int = 0,
) -> ProjectorModel:
    """An untrained projector between models that are written into `folder`."""
    config = tiny_projector_config(folder, language, patches, projector=projector, seed=seed)
    return build_tiny(config, seed=seed)


def build_tiny(config: ProjectorConfig, *, seed: int = 0) -> ProjectorModel:
    """The untrained model of a configuration; its vectors are far apart."""
    reader = build_seeing(config.image_encoder, seed=seed)
    language = build_language(config.language_model)
    network = build_projector(config, reader, language)
    network.init_weights(seed)
    # Through blocks that are scaled, too, rounding errors would grow.
    scaled = network.head if isinstance(network, QueryProjector) else network
    with torch.no_grad():
        for parameter in scaled.parameters():
            parameter.mul_(4)
    return assemble_projector(network, config, reader, language)


def tiny_projector_train_config(
    folder: Path,
    language: LanguageKind = "llama",
    patches: PatchKind = "vqgan",
    *,
    projector: ProjectorKind = "mlp",
    num_steps: int = 8,
    micro_batch_size: int = 4,
) -> ProjectorTrainConfig:
    """A run on the tiny pairs; frozen models and pictures are written into `folder`."""
    return ProjectorTrainConfig(
        model=tiny_projector_config(folder, language, patches, projector=projector),
        data=CaptionedDataConfig(
            sources=(CaptionsSource(path=str(write_tiny_captions(folder / "pairs"))),)
        ),
        optimizer=OptimizerConfig(learning_rate=3e-2, warmup_steps=2),
        num_steps=num_steps,
        global_batch_size=4,
        micro_batch_size=micro_batch_size,
        log_every=1,
        checkpoint_every=4,
    )


def _save_random(cls: Any, config: Any, folder: Path, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cls(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, 0.0, _STD)
    model.save_pretrained(folder)
