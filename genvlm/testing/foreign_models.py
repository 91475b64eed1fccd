"""Tiny random CLIP, SigLIP, SigLIP 2, Llava and Chameleon as transformers writes them to a folder.

Each is the published architecture with its processor and a tokenizer of whole words; pictures are
fitted into squares. Unknown words become one and the same token.
"""

from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch

from genvlm.testing.chameleon import write_tiny_huggingface

CONTEXT = 24
"""Tokens of CLIP's texts; SigLIP's are padded to it."""
LLAVA_PREFIX = 257
"""BOS and the patches of one picture."""
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }} : "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image> "
    "{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)
_WORDS = (
    'a red green blue yellow square bar corner on white page photo depicts Does this figure show " '
    '"? ? Please answer yes or no . Yes No user assistant : Describe the image What is it'
)


def tiny_tokenizer(*, bos: bool = True, eos: bool = False, **settings: Any) -> Any:
    """Whole words and the control tokens `<s> </s> <pad> <unk> <image>`."""
    from transformers import PreTrainedTokenizerFast

    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    control = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
    ids = {word: i for i, word in enumerate(dict.fromkeys([*control, *_WORDS.split()]))}
    backend = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(control)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{'<s> ' if bos else ''}$A{' </s>' if eos else ''}",
        special_tokens=[("<s>", ids["<s>"]), ("</s>", ids["</s>"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>", extra_special_tokens=["<image>"], **settings,
    )  # fmt: skip


def write_tiny_clip(folder: Path, *, seed: int = 0) -> Any:
    """Write a CLIP with 16x16 pictures; returns the model."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

    tokenizer = tiny_tokenizer(eos=True, model_max_length=CONTEXT)
    config = CLIPConfig(
        text_config=_tower() | _texts(tokenizer), vision_config=_tower() | _pictures(16, 4),
        projection_dim=16,
    )  # fmt: skip
    model = _random(CLIPModel, config, seed)
    processor = CLIPProcessor(CLIPImageProcessorPil(**_square(16)), tokenizer)
    return _saved(model, processor, folder)


def write_tiny_siglip(folder: Path, *, seed: int = 0) -> Any:
    """Write a SigLIP with 16x16 pictures, whose texts are padded; returns the model."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel, SiglipProcessor

    tokenizer = tiny_tokenizer(
        bos=False, eos=True, model_max_length=CONTEXT, model_input_names=["input_ids"]
    )
    config = SiglipConfig(
        text_config=_tower() | _texts(tokenizer) | {"projection_size": 32},
        vision_config=_tower() | _pictures(16, 4),
    )
    model = _random(SiglipModel, config, seed)
    size = {"size": {"height": 16, "width": 16}}
    processor = SiglipProcessor(SiglipImageProcessorPil(**size), tokenizer)
    return _saved(model, processor, folder)


def write_tiny_siglip2(folder: Path, *, seed: int = 0) -> Any:
    """Write a SigLIP 2 for pictures of any shape and texts of letters; returns the model."""
    from transformers import (
        Siglip2Config,
        Siglip2ImageProcessorPil,
        Siglip2Model,
        Siglip2Processor,
        Siglip2Tokenizer,
    )

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *ascii_lowercase]
    tokenizer = Siglip2Tokenizer({piece: i for i, piece in enumerate(pieces)}, [])
    texts = {"vocab_size": len(pieces), "max_position_embeddings": 64, "projection_size": 32}
    config = Siglip2Config(
        text_config=_tower() | texts | {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0},
        vision_config=_tower() | {"num_patches": 256, "patch_size": 16},
    )
    model = _random(Siglip2Model, config, seed)
    return _saved(model, Siglip2Processor(Siglip2ImageProcessorPil(), tokenizer), folder)


def write_tiny_llava(
    folder: Path, *, seed: int = 0, chat_template: str | None = None, context: int = 320
) -> Any:
    """Write a Llava of a CLIP tower and a Llama with 256 patches a picture; returns the model."""
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = tiny_tokenizer()
    text = LlamaConfig(
        vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=context,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, **_tower(),
    )  # fmt: skip
    config = LlavaConfig(
        text_config=text,
        vision_config=CLIPVisionConfig(**_tower(), **_pictures(32, 2)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = _random(LlavaForConditionalGeneration, config, seed)
    processor = LlavaProcessor(
        CLIPImageProcessorPil(**_square(32)), tokenizer, patch_size=2,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=chat_template,
    )  # fmt: skip
    return _saved(model, processor, folder)


def write_tiny_chameleon(folder: Path, *, seed: int = 0) -> Any:
    """Write a Chameleon with its processor, 64 codes a picture; returns the model."""
    from transformers import ChameleonImageProcessorPil, ChameleonProcessor, PreTrainedTokenizerFast

    model = write_tiny_huggingface(folder, seed=seed)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token="<s>", eos_token="</s>",
        pad_token="<pad>", unk_token="<unk>", sep_token="<reserved08706>",
    )  # fmt: skip
    processor = ChameleonProcessor(
        ChameleonImageProcessorPil(**_square(16)), tokenizer, image_seq_length=64
    )
    processor.save_pretrained(folder)
    return model


def _tower() -> dict[str, Any]:
    return {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "initializer_range": 0.3,
    }  # fmt: skip


def _texts(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip


def _pictures(side: int, patch: int) -> dict[str, Any]:
    return {"image_size": side, "patch_size": patch}


def _square(side: int) -> dict[str, Any]:
    return {
        "size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side},
    }  # fmt: skip


def _random(kind: Any, config: Any, seed: int) -> Any:
    """With all weights drawn anew: the initial ones of the towers hardly tell pictures apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config).eval()
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, 0.0, 0.3)
    return model


def _saved(model: Any, processor: Any, folder: Path) -> Any:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model
