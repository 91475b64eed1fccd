"""BLEU, ROUGE-L and CIDEr-D of captions, from statistics per item that can be resampled.

`caption_statistics` gives one row an item and `caption_metrics` turns sums or means of such rows
into metrics, so that a corpus metric is resampled by resampling sums (`resampling.py`).

The n-gram counts of BLEU come from sacrebleu. ROUGE-L with beta 1.2 and CIDEr-D exist in no
maintained package (that of torchmetrics has beta 1), so they are written out here. All three equal
the published numbers of nlg-eval and clipscore. The COCO code adds a tiny constant to every count:
BLEU without a matching n-gram is a little above 0 there and 0 here.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from sacrebleu.metrics import BLEU

from genvlm.errors import EvaluationError

MAX_ORDER = 4
ROUGE_BETA = 1.2
CIDER_SIGMA = 6.0
COLUMNS = (
    "items",  # 1
    *(f"matches_{order}" for order in range(1, MAX_ORDER + 1)),
    *(f"total_{order}" for order in range(1, MAX_ORDER + 1)),
    "caption_length",  # tokens
    "reference_length",  # of the reference closest in length, the shorter of two equally close
    "rouge_l",
    "cider_d",
)

# A word before n't, n't, other clitics, numbers, words with inner hyphens, signs that are tokens.
_TOKEN = re.compile(
    r"\w+(?=n't\b)|n't\b|'(?:s|m|d|ll|re|ve)\b|\d+(?:[.,]\d+)*(?!\w)|\w+(?:-\w+)*|[$%&#@+*=]"
)
_Weights = list[dict[tuple[str, ...], float]]


def tokenize_caption(text: str) -> list[str]:
    """Lower-case tokens as the Penn Treebank splits them, without punctuation.

    "The dog's ball isn't 1,000 well-worn coins!" gives
    the dog 's ball is n't 1,000 well-worn coins. The captioning code calls Stanford's PTBTokenizer
    (Java) and drops the same punctuation; that one also keeps abbreviations such as "p.m." whole,
    splits "cannot" and "gonna", and knows web addresses, which this does not.
    """
    return _TOKEN.findall(text.lower().replace("\u2019", "'"))


def caption_statistics(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> Float64[np.ndarray, "items columns"]:
    """One row an item, columns as `COLUMNS` names them.

    CIDEr-D weighs n-grams by the items of *this* call whose references hold them; with a single
    item every weight is log 1 = 0, and so is its value.

    Raises:
        EvaluationError: other than one list of at least one reference for each caption.
    """
    if len(captions) != len(references):
        raise EvaluationError(f"{len(captions)} captions but {len(references)} lists of references")
    for number, texts in enumerate(references):
        if not texts:
            raise EvaluationError(f"caption {number} has no reference: leave it out")
    hypotheses = [tokenize_caption(text) for text in captions]
    truths = [[tokenize_caption(text) for text in texts] for texts in references]
    counter = BLEU(tokenize="none", smooth_method="none", max_ngram_order=MAX_ORDER, force=True)
    ciders = cider_d(hypotheses, truths)
    rows = np.empty((len(captions), len(COLUMNS)))
    for row, hypothesis, refs, cider in zip(rows, hypotheses, truths, ciders, strict=True):
        bleu = counter.corpus_score([" ".join(hypothesis)], [[" ".join(ref)] for ref in refs])
        lengths = [bleu.sys_len, bleu.ref_len]
        row[:] = [1, *bleu.counts, *bleu.totals, *lengths, rouge_l(hypothesis, refs), cider]
    return rows


def caption_metrics(
    statistics: Float64[np.ndarray, "*batch columns"],
) -> dict[str, Float64[np.ndarray, "*batch"]]:
    """Metrics of sums or means of rows: bleu_1 to bleu_4, rouge_l in [0, 1], cider_d in [0, 10].

    Also `length`, the mean tokens of a caption: short captions are cheap. BLEU has no smoothing:
    it is 0 without a matching n-gram of its order.
    """
    columns = dict(
        zip(COLUMNS, np.moveaxis(np.asarray(statistics, np.float64), -1, 0), strict=True)
    )
    length, reference_length = columns["caption_length"], columns["reference_length"]
    exponent = 1 - _ratio(reference_length, length)
    # A corpus of empty captions has no ratio, and no match either.
    brevity = np.where(length > 0, np.exp(np.minimum(exponent, 0)), 0.0)
    metrics = {}
    product = np.ones_like(length)
    for order in range(1, MAX_ORDER + 1):
        product = product * _ratio(columns[f"matches_{order}"], columns[f"total_{order}"])
        metrics[f"bleu_{order}"] = brevity * product ** (1 / order)
    metrics["rouge_l"] = _ratio(columns["rouge_l"], columns["items"])
    metrics["cider_d"] = _ratio(columns["cider_d"], columns["items"])
    metrics["length"] = _ratio(length, columns["items"])
    return metrics


def rouge_l(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """F measure of the longest common subsequence, beta 1.2, in [0, 1].

    Precision and recall are each the best over the references, not of one reference.
    Source: Lin 2004, https://aclanthology.org/W04-1013, as the COCO caption evaluation computes it.
    """
    common = [_longest_common_subsequence(hypothesis, reference) for reference in references]
    if not any(common):
        return 0.0
    precision = max(common) / len(hypothesis)
    recall = max(n / len(ref) for n, ref in zip(common, references, strict=True) if n)
    beta2 = ROUGE_BETA**2
    return (1 + beta2) * precision * recall / (recall + beta2 * precision)


def cider_d(
    hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
    """CIDEr-D of each tokenised caption, in [0, 10].

    Weights of 1- to 4-grams are count x log(items / items whose references hold it); a hypothesis
    weight is clipped to the reference's, and a difference d of lengths costs exp(-d^2 / (2 x 36)).
    Source: Vedantam et al. 2015, https://arxiv.org/abs/1411.5726, as the COCO code computes it.
    """
    frequencies: Counter[tuple[str, ...]] = Counter()
    for refs in references:
        frequencies.update({gram for ref in refs for gram in _ngrams(ref)})
    values = []
    for hypothesis, refs in zip(hypotheses, references, strict=True):
        weights = _tf_idf(hypothesis, frequencies, len(references))
        similarities = []
        for ref in refs:
            # The COCO code compares numbers of bigrams, so 0 and 1 token are one length.
            difference = max(len(hypothesis) - 1, 0) - max(len(ref) - 1, 0)
            penalty = math.exp(-(difference**2) / (2 * CIDER_SIGMA**2))
            ref_weights = _tf_idf(ref, frequencies, len(references))
            similarities.append(penalty * _clipped_cosine(weights, ref_weights))
        values.append(10 * float(np.mean(similarities)))
    return values


def _ngrams(tokens: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(
        tuple(tokens[start : start + order])
        for order in range(1, MAX_ORDER + 1)
        for start in range(len(tokens) - order + 1)
    )


def _tf_idf(
    tokens: Sequence[str], frequencies: Counter[tuple[str, ...]], num_items: int
) -> _Weights:
    """Weights of the n-grams of each order."""
    weights: _Weights = [{} for _ in range(MAX_ORDER)]
    for gram, count in _ngrams(tokens).items():
        rarity = math.log(num_items) - math.log(max(frequencies[gram], 1))
        weights[len(gram) - 1][gram] = count * rarity
    return weights


def _clipped_cosine(hypothesis: _Weights, reference: _Weights) -> float:
    """Mean over orders; an order in which either side has no weight counts as 0."""
    total = 0.0
    for hyp, ref in zip(hypothesis, reference, strict=True):
        dot = sum(min(weight, ref[gram]) * ref[gram] for gram, weight in hyp.items() if gram in ref)
        norms = math.hypot(*hyp.values()) * math.hypot(*ref.values())
        total += dot / norms if norms > 0 else 0.0
    return total / MAX_ORDER


def _longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    lengths = [0] * (len(second) + 1)
    for word in first:
        previous = 0
        for place, other in enumerate(second, start=1):
            best = previous + 1 if word == other else max(lengths[place], lengths[place - 1])
            previous, lengths[place] = lengths[place], best
    return lengths[-1]


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient, 0 where the denominator is 0; a scalar where the batch has no axis."""
    zeros = np.zeros_like(numerator)
    return np.divide(numerator, denominator, out=zeros, where=denominator != 0)[()]
