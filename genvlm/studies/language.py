"""How well a model of ours knows text that was kept for testing, beside n-grams of its own pieces.

All count the same events, the pieces of a text and its end, so that nats a piece compare. A piece
that the texts of training never had is one unknown word to the n-grams, and cheap: they are
flattered by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genvlm.config.data import DrawnSource, FileSource, Source
from genvlm.data.emoji import split_concepts
from genvlm.data.glosses import load_glosses
from genvlm.data.scenes import sample_scenes
from genvlm.data.sources import read_source
from genvlm.errors import ConfigError
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.autoregressive import Likelihood
from genvlm.scoring.ngram import fit_trigram
from genvlm.tokenization.text import TextTokenizer

ORDERS = {1: "unigram", 2: "bigram", 3: "trigram"}
_NUM_SCENES = 500


@dataclass(frozen=True, kw_only=True)
class TextLoss:
    """Of one set of texts: nats a piece, ends counted too, by who read them."""

    name: str
    num_texts: int
    num_pieces: int
    nats_per_piece: Mapping[str, float]
    """Of `model`, `unigram`, `bigram` and `trigram`."""


def held_out_texts() -> dict[str, list[str]]:
    """Texts that no source trains on: captions of held-out families and pairs, and definitions."""
    training = {t for c in split_concepts(held_out=False) for t in (c.label, *c.captions)}
    tested = {t for c in split_concepts(held_out=True) for t in (c.label, *c.captions)}
    scenes = {scene.caption for scene in sample_scenes(_NUM_SCENES, 0, held_out=True)}
    return {
        "captions of held-out families": sorted(tested - training),
        "captions of held-out pairs": sorted(scenes),
        "held-out definitions": [gloss.text for gloss in load_glosses(held_out=True)],
    }


def training_texts(sources: Sequence[Source]) -> list[str]:
    """Every text of the sources. Raises ConfigError: one is of shards, which are not read here."""
    texts = []
    for number, source in enumerate(sources):
        if not isinstance(source, DrawnSource | FileSource):
            raise ConfigError(
                f"data.sources.{number} is of shards: name the sources that they were made of"
            )
        for reading in read_source(source, str(number)):
            texts += [s for s in reading.sample.segments if isinstance(s, str)]
    return texts


def measure_language(
    pretrained: PretrainedModel, training: Sequence[str], sets: Mapping[str, Sequence[str]]
) -> list[TextLoss]:
    """Nats a piece of each set, by the model and by n-grams of the texts that it was trained on."""
    tokenizer = pretrained.text_tokenizer
    ngram = fit_trigram([_as_words(text, tokenizer) for text in training])
    rows = []
    for name, texts in sets.items():
        scored = Likelihood(pretrained).score_text_given_image([(None, text) for text in texts])
        num_pieces = sum(len(one.log_probs) for one in scored)
        nats = {"model": -sum(one.total for one in scored)}
        for order, said in ORDERS.items():
            each = [ngram.score(_as_words(t, tokenizer), order=order).log_prob for t in texts]
            nats[said] = -float(np.sum(each))
        per_piece = {said: total / num_pieces for said, total in nats.items()}
        rows.append(
            TextLoss(
                name=name, num_texts=len(texts), num_pieces=num_pieces, nats_per_piece=per_piece
            )
        )
    return rows


def loss_table(rows: Sequence[TextLoss]) -> str:
    """As Markdown."""
    columns = ["model", *ORDERS.values()]
    lines = [
        f"| nats a piece | texts | pieces | {' | '.join(columns)} |",
        "|---|" + "---:|" * (2 + len(columns)),
    ]
    for row in rows:
        values = " | ".join(f"{row.nats_per_piece[column]:.3f}" for column in columns)
        lines.append(f"| {row.name} | {row.num_texts} | {row.num_pieces} | {values} |")
    return "\n".join(lines)


def _as_words(text: str, tokenizer: TextTokenizer) -> str:
    """Numbers of pieces, which an n-gram reads as words."""
    return " ".join(map(str, tokenizer.encode(text)))
