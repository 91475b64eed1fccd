"""Which configuration class a YAML file is, by its `kind`."""

from pathlib import Path

from genvlm.config.coca import CoCaTrainConfig
from genvlm.config.compare import CompareConfig
from genvlm.config.contrastive import ContrastiveTrainConfig
from genvlm.config.curation import CurationConfig
from genvlm.config.diffusion import DiffusionTrainConfig
from genvlm.config.image_tokenizer import VQGANTrainConfig
from genvlm.config.masked import MaskedTrainConfig
from genvlm.config.projector import ProjectorTrainConfig
from genvlm.config.schema import read_yaml
from genvlm.config.text_tokenizer import TextTokenizerConfig
from genvlm.config.training import TrainConfig
from genvlm.config.transformer import PublishedShape
from genvlm.config.video_tokenizer import VideoVQTrainConfig
from genvlm.errors import ConfigError

ModelTrainConfig = (
    TrainConfig
    | DiffusionTrainConfig
    | ContrastiveTrainConfig
    | CoCaTrainConfig
    | MaskedTrainConfig
    | ProjectorTrainConfig
)
Trainable = ModelTrainConfig | VQGANTrainConfig | VideoVQTrainConfig | TextTokenizerConfig
AnyConfig = Trainable | CurationConfig | CompareConfig | PublishedShape
_KINDS: dict[str, type[AnyConfig]] = {
    "mixed_modal": TrainConfig,
    "diffusion": DiffusionTrainConfig,
    "contrastive": ContrastiveTrainConfig,
    "coca": CoCaTrainConfig,
    "masked": MaskedTrainConfig,
    "projector": ProjectorTrainConfig,
    "vqgan": VQGANTrainConfig,
    "video_vq": VideoVQTrainConfig,
    "sentencepiece": TextTokenizerConfig,
    "curation": CurationConfig,
    "compare": CompareConfig,
    "shape": PublishedShape,
}


def config_class(path: Path) -> type[AnyConfig]:
    """The class of a configuration. Raises ConfigError for a kind that there is not."""
    kind = read_yaml(path).get("kind", "mixed_modal")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(f"{path}: no kind {kind!r}: choose one of {', '.join(_KINDS)}")
    return _KINDS[kind]
