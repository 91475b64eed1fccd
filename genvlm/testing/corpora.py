"""Corpora made by hand, of samples and codes."""

from collections.abc import Sequence

import numpy as np

from genvlm.data.corpus import Corpus
from genvlm.data.shard_columns import ShardColumns
from genvlm.data.shards import Shard
from genvlm.data.sources import Sample
from genvlm.testing.tiny import tiny_text_tokenizer
from genvlm.tokenization.text import TextTokenizer


def corpus_of(
    samples: Sequence[Sample],
    codes: Sequence[np.ndarray],
    text: TextTokenizer | None = None,
    *,
    sources: Sequence[range] | None = None,
) -> Corpus:
    """A corpus in memory, of one source unless more are told apart.

    Samples name pictures and clips by their place in `codes`.
    """
    text = text or tiny_text_tokenizer()
    columns = ShardColumns(text_size=text.size, codebook_size=2**16)
    for grid in codes:
        columns.add_visual(np.asarray(grid))
    for sample in samples:
        pieces = [text.encode(s) for s in sample.segments if isinstance(s, str)]
        columns.add(sample, pieces, range(len(codes)))
    return Corpus([Shard(columns.arrays())], [""], sources or [range(len(samples))], [])
