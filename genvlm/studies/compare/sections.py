"""Tables of the page of a comparison. What nobody was asked yet is said to be so."""

from collections.abc import Callable, Mapping, Sequence

from genvlm.data.emoji import NUM_CLASSES
from genvlm.evaluation.blocks import Block, Cell, Figure, Section, Table
from genvlm.evaluation.control_names import RANDOM
from genvlm.evaluation.plots import NamedPoint, named_points, point_curves
from genvlm.evaluation.retrieval import CUTOFFS
from genvlm.studies.compare.asked import HELD_OUT, OWN, TRAINING, UNSEEN
from genvlm.studies.compare.benchmark_sections import controls, pairs, scenes
from genvlm.studies.compare.choices import abilities
from genvlm.studies.compare.paired import COMPARED, SIGNIFICANT, AgainstBest
from genvlm.studies.compare.questions import SCENES
from genvlm.studies.compare.results import Results
from genvlm.studies.compare.summary import WHOLE, Key, OverSeeds, first_method
from genvlm.studies.compare.table_cells import (
    NOT_ASKED,
    OVER_SEEDS,
    Row,
    names_first,
    seeds_cell,
)
from genvlm.studies.evaluations import NEIGHBOUR, PAIRS

_SETS = (TRAINING, UNSEEN, HELD_OUT)


def table_sections(results: Results) -> list[Section]:
    """All of them, in the order of the page."""
    parts: Sequence[tuple[str, Callable[[Results], list[Block]]]] = (
        ("Who does what", _main),
        ("Which should I use", _choices),
        ("What each cannot do", _abilities),
        ("Paired tests", _paired),
        ("Drawings", _drawings),
        ("Scenes", scenes),
        ("Pairs of names", pairs),
        ("Without the picture", controls),
        ("Retrieval", _retrieval),
        ("Calibration", _calibration),
        ("Few labels", _probes),
        ("Cost", _costs),
    )
    return [Section(title, build(results) or [NOT_ASKED]) for title, build in parts]


def _main(results: Results) -> list[Block]:
    rows: list[Row] = []
    for recipe, numbers in results.numbers.items():
        method = first_method(results.firsts[recipe])
        keys: list[Key] = [
            *(("drawings", name) for name in _SETS),
            (SCENES, method, "swapped", "group", OWN),
            (SCENES, method, "replaced", "group", OWN),
            (PAIRS, method, WHOLE, "accuracy", OWN),
            ("recall", "text_to_image", "1"),
        ]
        rows.append([recipe, *(seeds_cell(numbers.get(key)) for key in keys)])
    if not rows:
        return []
    columns = [*_SETS, "swapped scenes", "replaced scenes", "pairs", "finds"]
    said = (
        f"Percent right. {OVER_SEEDS} Drawings: the best of {NUM_CLASSES} labels is right, of "
        f"{HELD_OUT} a label of the right group. Scenes: both captions and both pictures. Finds: "
        "the first picture for a text is its own."
    )
    return [Table(["recipe", *columns], [*rows, *_references(results)], said)]


def _references(results: Results) -> list[Row]:
    """The nearest training picture and chance."""
    keys = (SCENES, "swapped", "group"), (SCENES, "replaced", "group"), (PAIRS, WHOLE, "accuracy")
    pixels: Row = [results.baselines.get(("drawings", name)) for name in _SETS]
    chance: Row = [results.baselines.get(("chance", name)) for name in _SETS]
    rows: list[Row] = [
        ["pixel 1-NN", *pixels, *(results.reference(*key, NEIGHBOUR) for key in keys), None],
        [
            "chance",
            *chance,
            *(results.reference(*key, RANDOM) for key in keys),
            _by_luck(results),
        ],
    ]
    return [row for row in rows if any(cell is not None for cell in row[1:])]


def _by_luck(results: Results, cutoff: int = 1) -> float | None:
    """Recall of candidates in random order, in percent."""
    for record in results.firsts.values():
        if "retrieval" in record:
            return min(100.0, 100 * cutoff / record["retrieval"]["text_to_image"]["num_candidates"])
    return None


def _drawings(results: Results) -> list[Block]:
    """By every score that a family has."""
    rows: list[Row] = []
    shaded = []
    for recipe, record in results.firsts.items():
        if "drawings" not in record:
            continue
        numbers, drawn = results.numbers[recipe], record["drawings"]
        for method in ((), *((m,) for m in drawn.get("other_methods", {}))):
            shaded += [] if method else [len(rows)]
            flops = numbers.get(("decision", "flops", *method))
            rows.append(
                [
                    recipe,
                    (method[0] if method else drawn["method"]).replace("_", " "),
                    *(seeds_cell(numbers.get(("drawings", name, *method))) for name in _SETS),
                    _small(numbers.get(("calibration", "all_before", *method))),
                    None if flops is None else f"{flops.mean / 1e9:,.2f}",
                ]
            )
    said = (
        f"Percent right by each score. {OVER_SEEDS} ECE: calibration error on the {UNSEEN}. "
        "Shaded: what families are compared by."
    )
    columns = ["recipe", "by", *_SETS, "ECE", "GFLOPs"]
    names = names_first(len(columns))
    return [Table(columns, rows, said, names, highlight_rows=shaded)] if rows else []


def _choices(results: Results) -> list[Block]:
    rows: list[Row] = [
        [c.need, c.chosen or "not asked yet", c.number, c.runner_up, c.verdict]
        for c in results.choices
    ]
    said = (
        "Chosen by the numbers of this page. Not told apart: the paired test below has an adjusted "
        f"p of {SIGNIFICANT:g} or more."
    )
    columns = ["need", "use", "because of", "next", "how sure"]
    return [Table(columns, rows, said, align=["left"] * 5)]


def _abilities(results: Results) -> list[Block]:
    found = {recipe: abilities(kind) for recipe, kind in results.kinds.items()}
    if not found:
        return []
    names = list(next(iter(found.values())))
    rows: list[Row] = [
        [recipe, *("yes" if own[name] else "no" for name in names)] for recipe, own in found.items()
    ]
    said = (
        "By the scores that each family gives, whatever the training. Nats are of the codes or the "
        "latents that a model has of a picture. An index is searched as it stands where no "
        "picture is read again for a new text."
    )
    return [Table(["recipe", *names], rows, said)]


def _paired(results: Results) -> list[Block]:
    if not results.paired:
        return []
    names = [name for name in COMPARED if name in results.paired]
    rows: list[Row] = []
    for recipe in results.numbers:
        row: Row = [recipe]
        for name in names:
            found = results.paired[name]
            row.append("best" if recipe == found.best else _said(found.tests.get(recipe)))
        rows.append(row)
    said = (
        "Points below the best (negative: above it, on the seeds that both have), and p of the "
        "exact paired test, adjusted (Holm) over the recipes of one column: columns are tests of "
        "their own. "
        "Seeds of one item, and items of one group, are exchanged together. The best is chosen on "
        "the same items, which no p value accounts for."
    )
    return [Table(["recipe", *names], rows, said)]


def _said(test: AgainstBest | None) -> Cell:
    if test is None:
        return None
    if test.difference is None:
        return "no seed in common"
    if test.adjusted_p is None:
        return "same answers"
    difference = f"{test.difference:.1f}"
    p = "<\N{NO-BREAK SPACE}0.001" if test.adjusted_p < 0.001 else f"{test.adjusted_p:.3f}"
    apart = "" if test.told_apart else ", not told apart"
    said = f"{difference} (p\N{NO-BREAK SPACE}{p}{apart})"
    return said.replace("-", "\N{MINUS SIGN}")


def _retrieval(results: Results) -> list[Block]:
    directions = {"text_to_image": "picture", "image_to_text": "text"}
    keys = [("recall", d, str(k)) for d in directions for k in CUTOFFS]
    rows: list[Row] = [
        [recipe, *(seeds_cell(numbers.get(key)) for key in keys)]
        for recipe, numbers in results.numbers.items()
        if any(key in numbers for key in keys)
    ]
    if not rows:
        return []
    rows.append(["chance", *(_by_luck(results, k) for _ in directions for k in CUTOFFS)])
    columns = [f"{name}, first {k}" for name in directions.values() for k in CUTOFFS]
    said = (
        "Percent of texts whose picture is among the first, and of pictures whose text is. "
        f"{OVER_SEEDS}"
    )
    return [Table(["recipe", *columns], rows, said)]


def _calibration(results: Results) -> list[Block]:
    columns = {
        "all_before": "all drawings", "before": "one half", "after": "that half, tempered",
        "temperature": "temperature",
    }  # fmt: skip
    rows: list[Row] = []
    for recipe, numbers in results.numbers.items():
        found = [numbers.get(("calibration", name)) for name in columns]
        if any(found):
            rows.append([recipe, *(_small(value) for value in found)])
    said = (
        f"Expected calibration error on drawings of the {UNSEEN}, from 0 to 1, and the temperature "
        "fitted on the other half; means over seeds, in brackets their range. Scores that are no "
        "nats have no error before."
    )
    return [Table(["recipe", *columns.values()], rows, said)] if rows else []


def _probes(results: Results) -> list[Block]:
    numbers = results.numbers
    shots = sorted(
        {int(key[1]) for found in numbers.values() for key in found if key[0] == "probes"}
    )
    rows: list[Row] = []
    curves: dict[str, list[tuple[float, float]]] = {}
    for recipe, found in numbers.items():
        by_shots = {n: found[("probes", str(n))] for n in shots if ("probes", str(n)) in found}
        if by_shots:
            features = results.firsts[recipe].get("probes", {}).get("features", "")
            rows.append([recipe, features, *(seeds_cell(by_shots.get(n)) for n in shots)])
            curves[recipe] = [(n, value.mean) for n, value in by_shots.items()]
    if not rows:
        return []
    pixels = {n: results.baselines.get(("probes", str(n))) for n in shots}
    if any(value is not None for value in pixels.values()):
        rows.append(["pixels", "raw", *pixels.values()])
        curves["pixels"] = [(n, value) for n, value in pixels.items() if value is not None]
    title = f"percent right, {HELD_OUT}"
    said = (
        f"Linear probes of {HELD_OUT}: so many drawings of the training vendors a class, tested on "
        f"the {UNSEEN}."
    )
    svg = point_curves(
        curves, title=title, x_label="pictures of each class", log_x=True, from_zero=True
    )
    columns = [f"{n} a class" for n in shots]
    names = ["recipe", "features", *columns]
    return [
        Table(names, rows, f"{said} {OVER_SEEDS}", names_first(len(names))),
        Figure(svg, said, "Accuracy of linear probes over the number of labelled pictures"),
    ]


_TRAINING_COST: Mapping[str, tuple[Key, float, int]] = {
    "parameters, millions": (("training", "parameters"), 1e6, 2),
    "frozen, millions": (("training", "frozen_parameters"), 1e6, 2),
    "training, TFLOPs": (("training", "flops"), 1e12, 2),
    "tokenizing, TFLOPs": (("training", "tokenizing_flops"), 1e12, 2),
    "earlier, TFLOPs": (("training", "earlier_flops"), 1e12, 2),
    "steps": (("training", "num_steps"), 1, 0),
    "pairs, thousands": (("training", "pairs"), 1e3, 1),
    "minutes": (("training", "seconds"), 60, 1),
}
_DECISION_COST: Mapping[str, tuple[Key, float, int]] = {
    "GFLOPs": (("decision", "flops"), 1e9, 2),
    "seconds": (("decision", "seconds"), 1, 3),
}
"""Title to the number, its unit and decimals."""


def _costs(results: Results) -> list[Block]:
    training = (
        "Training, means over seeds. Tokenizing: every picture of the data once, in front of it. "
        "Earlier: what a projector joins, trained in front, once for all seeds: a language model, "
        "which read texts that no other did, and an encoder of the same documents where it sees "
        "with one. "
        "Optimizer steps are not counted. Minutes are of the machine that ran the cell."
    )
    decision = f"A decision: one picture against {NUM_CLASSES} labels, all encoded anew."
    blocks: list[Block] = []
    for columns, said in ((_TRAINING_COST, training), (_DECISION_COST, decision)):
        rows: list[Row] = []
        for recipe, numbers in results.numbers.items():
            found = [(numbers.get(key), unit, digits) for key, unit, digits in columns.values()]
            if any(value is not None for value, _, _ in found):
                cells = [f"{v.mean / u:,.{d}f}" if v else None for v, u, d in found]
                rows.append([recipe, *cells])
        if rows:
            blocks.append(Table(["recipe", *columns], rows, said))
    return [*blocks, *_cost_figure(results)]


def _cost_figure(results: Results) -> list[Block]:
    points = []
    for recipe, numbers in results.numbers.items():
        right = numbers.get(("drawings", UNSEEN))
        flops = numbers.get(("decision", "flops"))
        if right is not None and flops is not None:
            points.append(NamedPoint(recipe, flops.mean / 1e9, right.mean, right.low, right.high))
    if not points:
        return []
    svg = named_points(
        points, title=f"percent right, {UNSEEN}", x_label="GFLOPs of a decision, logarithmic"
    )
    said = "What a decision costs and how often it is right; lines: the range of seeds."
    return [Figure(svg, said, f"Accuracy on the {UNSEEN} over the operations of a decision")]


def _small(found: OverSeeds | None) -> Cell:
    """Three decimals."""
    if found is None:
        return None
    spread = (
        f" ({found.low:.3f}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{found.high:.3f})"
        if len(found.by_seed) > 1
        else ""
    )
    return f"{found.mean:.3f}{spread}"
