"""Configuration of a training run."""

from dataclasses import dataclass, field
from typing import Literal

from genvlm.config.data import DataConfig
from genvlm.config.schema import Beta, Count, Positive, Seed, Weight, strict
from genvlm.config.syntax import SyntaxConfig
from genvlm.config.transformer import TransformerConfig
from genvlm.errors import ConfigError


@strict
@dataclass(frozen=True, kw_only=True)
class TokenizersConfig:
    """Folders of trained tokenizers, or names of shipped ones."""

    text: str = "tokenizers/text-emoji"
    image: str = "tokenizers/image-emoji-64"
    num_codes: Positive | None = None
    """Merge codes of pictures, and those of clips, into so many coarser ones; None: as they are."""
    video: str | None = None
    """Folder of a video tokenizer whose grid is the image tokenizer's; None: no videos. Pictures
    and frames share their token ids where both tokenizers have one codebook."""


@strict
@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Next-token loss."""

    text_weight: Weight = 1.0
    image_weight: Weight = 1.0
    video_weight: Weight = 1.0
    """Of codes of videos."""
    z_loss_weight: Weight = 1e-5
    """Of the squared log normalizer (PaLM), which keeps logits from drifting between modalities."""


@strict
@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW or Muon with warm-up and a cosine down to `final_fraction` of the peak."""

    kind: Literal["adamw", "muon"] = "adamw"
    """muon: matrices inside the blocks by Muon, the rest (embedding, head, norms) by AdamW."""
    learning_rate: Weight
    warmup_steps: Count = 100
    final_fraction: Weight = 0.05
    """Learning rate at the end, as a share of the peak."""
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    weight_decay: Weight = 0.1
    """On matrices only."""
    grad_clip: Weight = 1.0
    """Largest norm of the whole gradient; 0 does not clip."""


@strict
@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every run of the training loop has."""

    optimizer: OptimizerConfig
    num_steps: Positive
    global_batch_size: Positive
    """Samples, or packed rows, per optimizer step, over all processes and accumulation steps."""
    micro_batch_size: Positive
    """Samples, or packed rows, per process and forward pass."""
    precision: Literal["float32", "bfloat16"] = "float32"
    deepspeed: str | None = None
    """A DeepSpeed JSON of `configs/deepspeed/`; None trains with Accelerate alone."""
    ema_decay: Beta | None = None
    """Of the moving average of the weights, which the model folder then holds; None: no average."""
    activation_checkpointing: bool = False
    """Blocks keep their inputs only and compute again for gradients: less memory, slower."""
    compile: bool = False
    """Blocks by torch.compile; the first steps take longer, and a C++ compiler must be there."""
    max_skipped_steps: Positive = 10
    """A step whose gradient is not finite is skipped; so many in a row end the run."""
    seed: Seed = 0
    log_every: Positive = 10
    checkpoint_every: Positive = 500
    tensorboard: bool = False
    """Also write the log as TensorBoard's event files, into `tensorboard/` of the run."""

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.micro_batch_size < 1 or self.global_batch_size < 1:
            raise ConfigError("num_steps, micro_batch_size and global_batch_size must be positive")
        if self.optimizer.kind == "muon" and self.deepspeed is not None:
            raise ConfigError(
                "optimizer.kind muon needs whole matrices, which DeepSpeed's ZeRO flattens: set it "
                "to adamw or leave deepspeed out"
            )
        if self.global_batch_size % self.micro_batch_size:
            raise ConfigError(
                f"global_batch_size {self.global_batch_size} is not a multiple of "
                f"micro_batch_size {self.micro_batch_size}"
            )

    def grad_accum_steps(self, num_processes: int) -> int:
        """Forward passes per optimizer step and process. Raises ConfigError when not whole."""
        per_pass = self.micro_batch_size * num_processes
        if self.global_batch_size % per_pass:
            raise ConfigError(
                f"global_batch_size {self.global_batch_size} is not a multiple of micro_batch_size "
                f"{self.micro_batch_size} x {num_processes} processes"
            )
        return self.global_batch_size // per_pass


@strict
@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """A whole run of a mixed-modal transformer: `genvlm train FILE --out RUN`."""

    kind: Literal["mixed_modal"] = "mixed_modal"
    model: TransformerConfig
    tokenizers: TokenizersConfig = field(default_factory=TokenizersConfig)
    syntax: SyntaxConfig = field(default_factory=SyntaxConfig)
    data: DataConfig
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        of_videos = self.objective.video_weight if self.tokenizers.video is not None else 0.0
        if not (self.objective.text_weight or self.objective.image_weight or of_videos):
            raise ConfigError(
                "objective.text_weight and objective.image_weight are 0, and so is video_weight or "
                "there is no tokenizers.video: nothing would be learned"
            )
        if self.data.infill is not None and not self.syntax.num_gaps:
            raise ConfigError(
                "data.infill needs sentinels: set syntax.num_gaps to the most spans of a document, "
                "4 for example"
            )
