"""Tables of scenes and of pairs, beside chance, neighbours and the model without its picture."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from genvlm.evaluation.blocks import Block, Cell, Interval, Table
from genvlm.evaluation.control_names import BLIND, RANDOM, SHUFFLED
from genvlm.studies.compare.asked import OWN
from genvlm.studies.compare.questions import SCENES
from genvlm.studies.compare.results import Results
from genvlm.studies.compare.summary import WHOLE, Gain, Key, first_judged, first_method
from genvlm.studies.compare.table_cells import OVER_SEEDS, Row, names_first, seeds_cell
from genvlm.studies.evaluations import NEIGHBOUR, PAIRS

_METRICS = ("text", "image", "group")
# Of a kind with fewer pairs a percentage says nothing.
_FEW_PAIRS = 20


def scenes(results: Results) -> list[Block]:
    """Swapped and replaced ones apart; nothing where nobody was asked."""
    blocks: list[Block] = []
    for tag, what in (("swapped", "icons change places"), ("replaced", "one thing is replaced")):
        rows, best = _by_method(results, SCENES, [(tag, metric) for metric in _METRICS])
        said = (
            f"Scenes whose {what}. Text: both captions are told right; image: both pictures; "
            f"group: all. {OVER_SEEDS} Shaded: what families are compared by. Negatives of a "
            "contrastive recipe are captions swapped in the same way, of other icons."
        )
        columns = ["recipe", "by", *_METRICS]
        if rows:
            blocks.append(Table(columns, rows, said, names_first(5), highlight_rows=best))
    return blocks


def pairs(results: Results) -> list[Block]:
    """All and by kind; nothing where nobody was asked."""
    rows, best = _by_method(results, PAIRS, [(WHOLE, "accuracy")])
    if not rows:
        return []
    said = f"Percent of drawings whose name is told from a similar one. {OVER_SEEDS}"
    whole = Table(["recipe", "by", "pairs"], rows, said, names_first(3), highlight_rows=best)
    return [whole, *_pairs_by_kind(results)]


def _pairs_by_kind(results: Results) -> list[Block]:
    """What the names of a pair differ in, and whether training had their family."""
    judged = {recipe: first_judged(record, PAIRS) for recipe, record in results.firsts.items()}
    asked = {recipe: found for recipe, found in judged.items() if found is not None}
    if not asked:
        return []
    kinds = {
        tag: metrics["accuracy"]["n"]
        for found in asked.values()
        for tag, metrics in found["categories"].items()
    }
    few = [f"{tag} ({num})" for tag, num in kinds.items() if num < _FEW_PAIRS]
    kinds = {tag: num for tag, num in kinds.items() if num >= _FEW_PAIRS}
    if not kinds:
        return []
    rows: list[Row] = []
    for recipe in asked:
        method, numbers = first_method(results.firsts[recipe]), results.numbers[recipe]
        found = [numbers.get((PAIRS, method, tag, "accuracy", OWN)) for tag in kinds]
        rows.append([recipe, *(None if number is None else number.mean for number in found)])
    nearest = [results.reference(PAIRS, tag, "accuracy", NEIGHBOUR) for tag in kinds]
    if any(value is not None for value in nearest):
        rows.append([NEIGHBOUR, *nearest])
    said = (
        "The same by kind (in brackets: items), mean over seeds, by the score that families are "
        f"compared by. {NEIGHBOUR}: by the nearest drawing of the training vendors, held-out "
        "families too."
    )
    if few:
        said += f" Left out, being few: {', '.join(few)}."
    return [Table(["recipe", *(f"{tag} ({num})" for tag, num in kinds.items())], rows, said)]


def _by_method(
    results: Results, benchmark: str, columns: Sequence[tuple[str, str]]
) -> tuple[list[Row], list[int]]:
    """Rows of every recipe and method, then of references; numbers of the rows to shade.

    Args:
        columns: category and metric of each.
    """
    rows: list[Row] = []
    shaded = []
    for recipe, numbers in results.numbers.items():
        first = first_method(results.firsts[recipe])
        for method in dict.fromkeys(key[1] for key in numbers if key[0] == benchmark):
            keys = [(benchmark, method, *column, OWN) for column in columns]
            cells = [seeds_cell(numbers.get(key)) for key in keys]
            if any(cell is not None for cell in cells):
                shaded += [len(rows)] if method == first else []
                rows.append([recipe, method.replace("_", " "), *cells])
    for who, title in ((NEIGHBOUR, "pixel 1-NN"), (RANDOM, "chance")):
        cells = [results.reference(benchmark, *column, who) for column in columns]
        if any(cell is not None for cell in cells):
            rows.append([title, "", *cells])
    return rows, shaded


def controls(results: Results) -> list[Block]:
    """Gains over the blind and the shuffled control; nothing where they were not run."""
    said = "Whether a model beats itself both ways: both intervals below lie above 0. First seed."
    blocks = _over_controls(results, beats_itself, said)
    for control, what in (
        (BLIND, "itself without the picture"),
        (SHUFFLED, "itself with the picture of another item"),
    ):
        said = (
            f"Points of a model over {what}, a tie worth a half; small: the 95 % interval, paired, "
            "resampling groups. First seed."
        )
        blocks += _over_controls(results, partial(_over, control), said)
    return blocks


def _over_controls(
    results: Results,
    cell: Callable[[Mapping[Key, Gain], tuple[str, str, str]], Cell],
    said: str,
) -> list[Block]:
    """A table of every recipe that controls were run for."""
    shown = [
        (SCENES, "swapped", "group"),
        (SCENES, "replaced", "group"),
        (PAIRS, WHOLE, "accuracy"),
    ]
    rows: list[Row] = [
        [recipe, *(cell(gains, key) for key in shown)]
        for recipe, gains in results.gains.items()
        if gains
    ]
    return (
        [Table(["recipe", "swapped scenes", "replaced scenes", "pairs"], rows, said)]
        if rows
        else []
    )


def beats_itself(
    gains: Mapping[Key, Gain], key: tuple[str, str, str]
) -> Literal["yes", "no"] | None:
    """Whether a model is surely above both of its controls; None where one was not run."""
    found = [gains.get((*key, control)) for control in (BLIND, SHUFFLED)]
    if None in found:
        return None
    return "yes" if all(gain.is_sure for gain in found if gain is not None) else "no"


def _over(control: str, gains: Mapping[Key, Gain], key: tuple[str, str, str]) -> Cell:
    gain = gains.get((*key, control))
    if gain is None or gain.interval is None:
        return None if gain is None else gain.value
    return Interval(gain.value, *gain.interval)
