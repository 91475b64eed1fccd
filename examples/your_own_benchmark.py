"""A benchmark of your own: `python examples/your_own_benchmark.py MODEL`.

One picture and two captions an item; the rule, ties, controls and intervals are the library's.
"""

import sys
from pathlib import Path

from genvlm.data.scenes import render_scene, sample_scenes
from genvlm.evaluation.benchmark import Benchmark, Item, run_benchmark
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.summary import Summary, summarize
from genvlm.models.pretrained import load_pretrained
from genvlm.scoring.autoregressive import LikelihoodScorer
from genvlm.scoring.blind import BlindScorer
from genvlm.scoring.controls import LengthScorer
from genvlm.scoring.protocols import Grid


def build(num: int) -> Benchmark:
    """Is "a left of b" told from "b left of a"? The card is borrowed from emoji-pairs."""
    items = []
    for i, scene in enumerate(sample_scenes(num, seed=7, held_out=True)):
        picture = render_scene(scene, "noto")
        texts = [scene.caption, scene.swapped.caption]
        grid = Grid(item_id=f"swap-{i:04d}", images=[picture], texts=texts)
        items.append(Item(grid=grid, group=f"swap-{i:04d}", target=0, tags=(scene.relation,)))
    card = load_card("emoji-pairs")
    return Benchmark(card.name, tuple(items), card, f"{card.version}+own")


def main(model: str, num: int = 40) -> Summary:
    """Run it with controls; returns the summary."""
    pretrained = load_pretrained(Path(model))
    benchmark = build(num)
    controls = {"blind": BlindScorer(pretrained), "length": LengthScorer()}
    scorer = LikelihoodScorer(pretrained, "text_given_image")
    summary = summarize(run_benchmark(benchmark, scorer, controls), benchmark.card)
    print({name: metric.value for name, metric in summary.metrics.items()})
    return summary


if __name__ == "__main__":
    main(*sys.argv[1:2])
