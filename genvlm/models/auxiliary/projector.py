"""Pictures for a frozen language model: a projector from patches to vectors that it reads.

B rows, N pictures, P patches, V vectors of a picture, D width of the language model, T tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from genvlm.config.projector import ProjectorConfig, QueriesConfig
from genvlm.config.schema import to_plain
from genvlm.models.auxiliary.language_model import Language, LanguageModel
from genvlm.models.patches import PatchReader
from genvlm.nn.cross_attention import ReadingBlock
from genvlm.nn.devices import move_to
from genvlm.nn.frozen import Frozen
from genvlm.nn.layers import rotary_table
from genvlm.nn.safetensors_folder import fingerprint_of, fingerprint_tensors, load_into
from genvlm.tokenization.image import fit_squares, to_pixels
from genvlm.tokenization.image_slots import Prompt, Row, lay_out

SCHEMA = 1
# Pictures that are encoded at once.
_BATCH = 32
_NORM_EPS = 1e-5
# In front of the names of an image encoder's weights that are saved with a projector's.
_ENCODER = "image_encoder."


class PatchProjector(nn.Module):
    """One linear layer (MiniGPT-4), or two with GELU between them (LLaVA 1.5), for each patch."""

    def __init__(
        self, patch_width: int, num_patches: int, width: int, kind: Literal["linear", "mlp"]
    ) -> None:
        super().__init__()
        self.num_vectors = num_patches
        self.linear_1 = nn.Linear(patch_width, width)
        self.linear_2 = nn.Linear(width, width) if kind == "mlp" else None

    def init_weights(self, seed: int) -> None:
        """As torch's own linear layers, from a seed."""
        generator = torch.Generator().manual_seed(seed)
        for layer in (self.linear_1, self.linear_2):
            if layer is not None:
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)

    def forward(
        self, states: Float[Tensor, "pictures patches dim"]
    ) -> Float[Tensor, "pictures patches width"]:
        """Vectors of patches."""
        vectors: Tensor = self.linear_1(states)
        if self.linear_2 is not None:
            vectors = self.linear_2(F.gelu(vectors))
        return vectors


class QueryProjector(nn.Module):
    """Learned queries that read the patches and each other, and a linear layer behind them.

    After BLIP-2 (Li et al. 2023, arXiv 2301.12597, section 3.1), whose Q-Former begins as BERT and
    reads in every other block: this one begins at random weights and reads in each. Reading has no
    order, and states of patches need not tell where they lie, so that each place has a learned
    vector of its own.
    """

    def __init__(
        self, patch_width: int, num_patches: int, width: int, config: QueriesConfig
    ) -> None:
        super().__init__()
        hidden, heads = config.hidden_size, config.num_heads
        self.num_vectors, self.head_dim = config.num_queries, hidden // heads
        self.embedding = nn.Linear(patch_width, hidden)
        self.places = nn.Parameter(torch.empty(num_patches, hidden))
        self.queries = nn.Parameter(torch.empty(config.num_queries, hidden))
        self.blocks = nn.ModuleList(
            ReadingBlock(hidden, num_heads=heads, norm_eps=_NORM_EPS)
            for _ in range(config.num_layers)
        )
        self.norm = nn.RMSNorm(hidden, eps=_NORM_EPS)
        self.head = nn.Linear(hidden, width)

    def init_weights(self, seed: int) -> None:
        """Normal: queries and places of 1, matrices that keep the size of what they read."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                std = 1.0 if name in ("queries", "places") else parameter.shape[1] ** -0.5
                nn.init.normal_(parameter, std=std, generator=generator)
        for layer in (self.embedding, self.head):
            nn.init.zeros_(layer.bias)

    def forward(
        self, states: Float[Tensor, "pictures patches dim"]
    ) -> Float[Tensor, "pictures queries width"]:
        """A vector of each query."""
        read = self.embedding(states) + self.places
        x = self.queries.expand(len(states), -1, -1)
        num, device = self.num_vectors, states.device
        # Queries are told apart by what they are: none is turned.
        unturned = torch.zeros(len(states), num, 1, dtype=torch.long, device=device)
        rotary = rotary_table(unturned, [self.head_dim], [1.0])
        seen = torch.ones(len(states), 1, num, num, dtype=torch.bool, device=device)
        for block in self.blocks:
            x = block(x, rotary, seen, read)
        vectors: Tensor = self.head(self.norm(x))
        return vectors


Projector = PatchProjector | QueryProjector


def fill_rows(
    language: LanguageModel,
    token_ids: Int[Tensor, "batch tokens"],
    is_image: Bool[Tensor, "batch tokens"],
    vectors: Float[Tensor, "pictures vectors width"],
) -> Float[Tensor, "batch tokens width"]:
    """What the language model reads: vectors of tokens, and of pictures where these stand."""
    embedded = language.embed(token_ids)
    return embedded.masked_scatter(is_image[..., None], vectors.to(embedded.dtype))


@dataclass(frozen=True, kw_only=True)
class ProjectorModel:
    """A projector with the two models that it joins."""

    projector: Projector
    patches: PatchReader
    language: Language
    prompt: str
    """What stood in front of captions in training, with `{image}` in it."""
    fingerprint: str
    """sha256 over all weights and configuration. No paths."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.projector.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """In which the projector computes."""
        return next(self.projector.parameters()).dtype

    @torch.no_grad()
    def project(
        self, images: Sequence[UInt8[np.ndarray, "height width 3"]]
    ) -> Float[Tensor, "pictures vectors width"]:
        """Vectors of pictures of any size, which are scaled to fit and padded to a white square."""
        parts = [torch.zeros(0, self.projector.num_vectors, self.language.model.width)]
        for start in range(0, len(images), _BATCH):
            pixels = to_pixels(fit_squares(images[start:][:_BATCH], self.patches.side))
            states = self.patches.encoder(pixels.to(self.device))
            parts.append(self.projector(states))
        return torch.cat([part.to(self.device) for part in parts])

    def lay_out(self, prompt: Prompt, num_images: int, answer: str | None = None) -> Row:
        """Tokens of a prompt, and of an answer behind it. Raises TokenError: they do not fit."""
        return lay_out(
            prompt, self.language.coder,
            num_images=num_images, num_vectors=self.projector.num_vectors,
            answer=answer, context=self.language.model.context,
        )  # fmt: skip

    @torch.no_grad()
    def read(
        self, prompt: Prompt, vectors: Float[Tensor, "pictures vectors width"]
    ) -> Float[Tensor, "1 tokens width"]:
        """What the language model reads of a prompt.

        Args:
            vectors: of the pictures, in the order of the prompt's slots.

        Raises:
            TokenError: pictures and slots are not as many, or the prompt is too long.
        """
        row = self.lay_out(prompt, len(vectors))
        token_ids = torch.tensor([row.token_ids], device=self.device)
        is_image = torch.tensor([row.is_image], device=self.device)
        return fill_rows(self.language.model, token_ids, is_image, vectors)


def assemble_projector(
    projector: Projector, config: ProjectorConfig, patches: PatchReader, language: Language
) -> ProjectorModel:
    """The model of these parts, in eval mode and without gradients."""
    for part in (projector, patches.encoder):
        part.eval().requires_grad_(False)
    payload = {
        "schema": SCHEMA,
        "weights": fingerprint_tensors(trained_state(projector, patches.encoder)),
        "projector": config.projector if config.queries is None else to_plain(config.queries),
        "prompt": config.prompt,
        "image_encoder": patches.fingerprint,
        "language_model": language.fingerprint,
    }
    return ProjectorModel(
        projector=projector,
        patches=patches,
        language=language,
        prompt=config.prompt,
        fingerprint=fingerprint_of(payload),
    )


def build_projector(config: ProjectorConfig, patches: PatchReader, language: Language) -> Projector:
    """A projector of the widths of what it joins."""
    shape = (patches.width, patches.num_patches, language.model.width)
    if config.projector == "queries":
        assert config.queries is not None
        return QueryProjector(*shape, config.queries)
    return PatchProjector(*shape, config.projector)


def trained_state(projector: Projector, encoder: nn.Module) -> dict[str, Tensor]:
    """Weights of what is trained: the projector, and an image encoder that is not `Frozen`."""
    own = {} if isinstance(encoder, Frozen) else encoder.state_dict()
    return {**projector.state_dict(), **{_ENCODER + name: t for name, t in own.items()}}


def load_trained(
    projector: Projector, encoder: nn.Module, weights: Mapping[str, Tensor], source: str
) -> None:
    """Take weights such as `trained_state` gives. Raises CheckpointError: they do not fit."""
    rest = dict(weights)
    if not isinstance(encoder, Frozen):
        names = [name for name in rest if name.startswith(_ENCODER)]
        own = {name.removeprefix(_ENCODER): rest.pop(name) for name in names}
        load_into(encoder, own, source)
    load_into(projector, rest, source)


def move_projector(model: ProjectorModel, device: str | torch.device) -> ProjectorModel:
    """The model with all its parts on a device. Raises ConfigError: there is no such one."""
    for part in (model.projector, model.patches.encoder, model.language.model):
        move_to(part, device)
    return model
