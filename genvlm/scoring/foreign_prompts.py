"""Prompts with pictures for a model of transformers, and log p of tokens that go on behind them.

The model's own chat template makes the prompt where it has one: one turn of the user, pictures
first, then words, then the beginning of the assistant's turn. Otherwise pictures stand first, then
a line break and the words.
"""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from PIL import Image
from torch import Tensor

from genvlm.data.images import RGBImage
from genvlm.errors import CheckpointError, ConfigError
from genvlm.scoring.transformers_folder import ForeignModel

PLAIN_PROMPT = "{images}\n{prompt}"
Inputs = Mapping[str, Tensor]
"""What a processor gives for one prompt: input_ids (1, tokens), pixels, masks."""

# Of one float32 log-probability, by a pass over everything and behind shared keys and values.
_TOLERANCE = 1e-4
# Tokens, prompt included, whose keys and values are held at once.
_TOKENS_PER_BATCH = 8192


def read_prompt(foreign: ForeignModel, images: Sequence[RGBImage], prompt: str) -> Inputs:
    """One prompt with its pictures, as tensors where the model is.

    Args:
        prompt: words for the user's turn; empty for the pictures alone.

    Raises:
        ConfigError: the model has neither a chat template nor a token for pictures.
    """
    processor, model = foreign.processor, foreign.model
    pictures = [Image.fromarray(image) for image in images]
    if processor.chat_template is not None:
        content = [{"type": "image", "image": picture} for picture in pictures]
        words = [{"type": "text", "text": prompt}] if prompt else []
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content + words}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    else:
        if foreign.image_token is None:
            raise ConfigError(
                "the model has neither a chat template nor a token that stands for a picture: "
                "give its folder a chat_template.jinja"
            )
        tokens = foreign.image_token * len(pictures)
        text = PLAIN_PROMPT.format(images=tokens, prompt=prompt) if prompt else tokens
        # Chameleon's processor ends a turn behind every text; a caption belongs to the same turn.
        same_turn = {} if prompt or not _ends_turns(foreign) else {_SAME_TURN: True}
        nested = [pictures] if pictures else None
        inputs = processor(images=nested, text=[text], return_tensors="pt", **same_turn)
    return dict(inputs.to(model.device, model.dtype))


@contextmanager
def fitting_processor() -> Iterator[None]:
    """Raises CheckpointError where the model refuses what its processor prepared."""
    try:
        yield
    except ValueError as error:
        raise CheckpointError(
            f"the model does not take what its processor prepares ({str(error)[:200]}): copy "
            "processor_config.json or preprocessor_config.json from the release"
        ) from None


class ContinuationReader:
    """log p of tokens behind a prompt, which is read once for all of them where that is exact.

    Whether it is, the first call finds out: both ways on its longest continuation, at most 1e-4
    apart. Models that fail, and those in bfloat16 or float16, read the prompt anew each time.

    Raises:
        ConfigError: the model reads ahead, so that its predictions have seen what they predict.
    """

    def __init__(self, foreign: ForeignModel) -> None:
        self._model = foreign.model
        precise = self._model.dtype in (torch.float32, torch.float64)
        self._shares: bool | None = None if precise else False
        known = inspect.signature(self._model.forward).parameters
        self._keeps = "logits_to_keep" in known

    @property
    def shares_prompt(self) -> bool | None:
        """Whether the prompt is read once; None: not found out yet."""
        return self._shares

    @torch.no_grad()
    def log_probs(
        self, inputs: Inputs, continuations: Sequence[Sequence[int]]
    ) -> list[Float32[np.ndarray, " tokens"]]:
        """Of every token of every continuation, in nats; float64 for a float64 model."""
        rows = [torch.tensor(c, device=self._model.device) for c in continuations]
        longest = max(rows, key=len, default=None)
        if longest is not None and len(longest) > 1 and self._shares is None:
            self._shares = self._compare(inputs, longest)
        if self._shares or longest is None or len(longest) == 1:
            scored = self._shared(inputs, rows)
        else:
            scored = [self._alone(inputs, row) for row in rows]
        return [s.cpu().numpy() for s in scored]

    def _compare(self, inputs: Inputs, row: Tensor) -> bool | None:
        alone = self._alone(inputs, row)
        if not alone.isfinite().all():
            return None  # nothing to compare; the scorer names the item
        try:
            (shared,) = self._shared(inputs, [row])
        except (TypeError, ValueError, RuntimeError, AttributeError):
            shared = torch.full_like(alone, torch.nan)  # its cache knows no continuation
        if (shared - alone).abs().max() <= _TOLERANCE:
            return True
        if not (alone[:-1] - self._alone(inputs, row[:-1])).abs().max() <= _TOLERANCE:
            raise ConfigError(
                "the model reads the tokens behind the one it predicts: its log-probabilities mean "
                "nothing; use another method"
            )
        return False

    def _alone(self, inputs: Inputs, row: Tensor) -> Float[Tensor, " tokens"]:
        """One pass over the prompt and all but the last token."""
        whole = dict(inputs)
        for name in ("attention_mask", "token_type_ids", "mm_token_type_ids"):
            if name in inputs:  # zero: a token of text
                more = torch.full_like(row[None, :-1], int(name == "attention_mask"))
                whole[name] = torch.cat([inputs[name], more.to(inputs[name])], 1)
        whole["input_ids"] = torch.cat([inputs["input_ids"], row[None, :-1]], 1)
        logits = self._logits(len(row), use_cache=False, **whole).logits
        return _log_probs(logits, row[None])[0]

    def _shared(self, inputs: Inputs, rows: Sequence[Tensor]) -> list[Float[Tensor, " tokens"]]:
        """One pass over the prompt, then all continuations behind its keys and values."""
        read = self._logits(1, use_cache=True, **inputs)
        length = inputs["input_ids"].shape[1]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        scored: dict[int, Tensor] = {}
        size = max(1, _TOKENS_PER_BATCH // (length + max(map(len, rows), default=1)))
        for start in range(0, len(order), size):
            part = order[start : start + size]
            targets = torch.nn.utils.rnn.pad_sequence([rows[i] for i in part], batch_first=True)
            logits = read.logits.expand(len(part), -1, -1)
            if targets.shape[1] > 1:
                cache = copy.deepcopy(read.cache)
                cache.batch_repeat_interleave(len(part))
                # Padding stands on the right, behind everything that a causal model reads. No mask:
                # Qwen2-VL would count positions from it, one too many.
                rest = self._model(input_ids=targets[:, :-1], cache=cache, use_cache=True)
                logits = torch.cat([logits, rest.logits], 1)
            log_probs = _log_probs(logits, targets)
            scored |= {i: log_probs[k, : len(rows[i])] for k, i in enumerate(part)}
        return [scored[i] for i in range(len(rows))]

    def _logits(self, num: int, **inputs: Any) -> Any:
        """A pass whose logits are those of the last `num` tokens."""
        keep = {"logits_to_keep": num} if self._keeps else {}
        with fitting_processor():
            output = self._model(**inputs, **keep)
        output.logits = output.logits[:, -num:]
        return output


_SAME_TURN = "return_for_text_completion"


def _ends_turns(foreign: ForeignModel) -> bool:
    return foreign.settings["model_type"] == "chameleon"


def _log_probs(
    logits: Float[Tensor, "rows tokens vocab"], targets: Tensor
) -> Float[Tensor, "rows tokens"]:
    precise = logits if logits.dtype == torch.float64 else logits.float()
    return precise.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
