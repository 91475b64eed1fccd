"""Records of a comparison with known numbers: no model is trained for them."""

from collections.abc import Mapping, Sequence
from typing import Any

from genvlm.config.compare import CompareConfig, CurvesConfig
from genvlm.evaluation.control_names import BLIND, RANDOM, SHUFFLED
from genvlm.studies.compare.asked import HELD_OUT, METHODS, OWN, TRAINING, UNSEEN
from genvlm.studies.compare.cells import Cell
from genvlm.studies.evaluations import PAIRS

KINDS = {
    "clip": "contrastive", "transformer": "mixed_modal", "siglip": "contrastive",
    "negclip": "contrastive", "diffusion": "diffusion", "masked": "masked", "coca": "coca",
    "projector": "projector",
}  # fmt: skip
"""Of recipes that records can be made of."""


def tiny_comparison(
    names: Sequence[str] = ("clip", "transformer", "siglip"),
    seeds: tuple[int, ...] = (0, 1),
    curves: CurvesConfig | None = None,
) -> CompareConfig:
    """Of recipes that no one reads."""
    return CompareConfig(
        recipes={name: f"configs/compare/{name}.yaml" for name in names},
        training_flops=1e12,
        seeds=seeds,
        curves=curves or CurvesConfig(),
    )


def made_record(
    cell: Cell,
    *,
    unseen: Sequence[bool] = (True, False),
    swapped: Sequence[bool] = (True, False),
    pairs: Sequence[bool] | None = (True, False),
    ranks: Sequence[int] | None = None,
    probes: Mapping[int, Sequence[bool]] | None = None,
    error: float | None = 0.1,
    flops: float = 1e9,
    blind: float | None = None,
    captions: Mapping[int, Sequence[bool]] | None = None,
) -> dict[str, Any]:
    """Of one cell; recipes have batches of 64.

    Args:
        unseen: whether drawings of the unseen vendor are named right.
        swapped: whether swapped scenes are wholly right; replaced ones all are.
        pairs: whether pairs are right; None: not asked.
        ranks: of pictures and texts in retrieval; None: not asked.
        probes: whether probes are right, by shots; None: not asked.
        error: of calibration, before a temperature; None: scores are no nats.
        flops: of a decision.
        blind: what every item earns without its picture, and with another one; None: not run.
        captions: whether concepts are right that so many captions name; None: not asked.
    """
    kind, batch = KINDS[cell.recipe], cell.batch_size or 64
    first = METHODS[kind].captions[0]
    drawn = {TRAINING: _by_id("noto", [True]), UNSEEN: _by_id("fluent", unseen),
             HELD_OUT: _by_id("held", [False])}  # fmt: skip
    scenes = _by_id("swapped", swapped) | _by_id("replaced", [True] * len(swapped))
    tags = {i: [i.partition("-")[0]] for i in scenes}
    record: dict[str, Any] = {
        "schema": 1,
        "identity": cell.name,
        "cell": {
            "name": cell.name, "recipe": cell.recipe, "kind": kind, "seed": cell.seed,
            "data_share": cell.data_share, "batch_size": cell.batch_size,
        },
        "training": {
            "parameters": 2_000_000, "flops": 1e12, "num_steps": 10,
            "batch_size": batch, "pairs": 10 * batch, "seconds": None, "frozen_parameters": 0,
            "tokenizing_flops": 0.0, "earlier_flops": 0.0,
        },
        "drawings": {
            "method": METHODS[kind].drawings[0],
            "unit": "nats",
            "right": drawn,
            "groups": {name: {i: i for i in right} for name, right in drawn.items()},
            "calibration": {
                "all_before": error, "before": error, "after": 0.05, "temperature": 2.0,
            },
            "cost": {"flops": flops, "seconds": 0.5},
        },
        "scenes": {first: _judged(scenes, ("text", "image", "group"), tags, 100 / 6, blind)},
    }  # fmt: skip
    if pairs is not None:
        asked = _by_id("pair", pairs)
        kinds = {i: ["replace"] for i in asked}
        record[PAIRS] = {first: _judged(asked, ("accuracy",), kinds, 50.0, blind)}
    if ranks is not None:
        by_query = {f"query-{i}": rank for i, rank in enumerate(ranks)}
        groups = {query: query for query in by_query}
        ranked = {"method": first, "ranks": by_query, "groups": groups, "num_candidates": 50}
        record["retrieval"] = {"image_to_text": ranked, "text_to_image": ranked}
    if probes is not None:
        shots = {str(n): {"right": _by_id("fluent", right)} for n, right in probes.items()}
        record["probes"] = {"features": "image tower", "shots": shots}
    if captions is not None:
        named = {n: _by_id(f"{n}-times", right) for n, right in captions.items()}
        record["frequency"] = {
            "right": {i: ok for right in named.values() for i, ok in right.items()},
            "captions": {i: n for n, right in named.items() for i in right},
            "method": first,
        }
    return record


def _by_id(name: str, right: Sequence[bool]) -> dict[str, bool]:
    return {f"{name}-{i}": ok for i, ok in enumerate(right)}


def _judged(
    right: Mapping[str, bool],
    metrics: Sequence[str],
    tags: Mapping[str, list[str]],
    chance: float,
    blind: float | None,
) -> dict[str, Any]:
    earned = {i: float(ok) for i, ok in right.items()}

    def table(ids: Sequence[str], level: float | None) -> dict[str, Any]:
        value = 100 * sum(earned[i] for i in ids) / len(ids) if level is None else level
        return {m: {"value": value, "half": value, "n": len(ids)} for m in metrics}

    members = {tag: [i for i in right if tag in tags[i]] for of in tags.values() for tag in of}
    tables = {
        who: {
            "metrics": table(list(right), level),
            "categories": {tag: table(ids, level) for tag, ids in members.items()},
        }
        for who, level in ((OWN, None), (RANDOM, chance))
    }
    levels = {} if blind is None else {BLIND: blind, SHUFFLED: blind}
    flat = {who: dict.fromkeys(earned, level) for who, level in levels.items()}
    halves = {OWN: earned, **flat} if levels else {}
    return {
        **tables[OWN],
        "controls": {"scores": {RANDOM: tables[RANDOM]}},
        "earned": dict.fromkeys(metrics, earned),
        "halves": {who: dict.fromkeys(metrics, by_id) for who, by_id in halves.items()},
        "groups": {i: i for i in right},
        "tags": dict(tags),
    }
