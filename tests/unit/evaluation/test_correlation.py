import csv
import io
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genvlm.errors import EvaluationError
from genvlm.evaluation.correlation import (
    dsg_score,
    kendall,
    mean_by_key,
    pearson,
    read_dependencies,
    spearman,
)
from genvlm.evaluation.statistics import Undefined

Read = Callable[[str], str]
Key = tuple[str, str]
FINITE = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def likert(released: Read) -> dict[Key, float]:
    rows = table(released("dsg/tifa160-likert-anns.csv"))
    return mean_by_key(((r["t2i_model"], r["item_id"]), float(r["answer"])) for r in rows)


@pytest.fixture(scope="module")
def dsg_rows(released: Read) -> list[dict[str, str]]:
    return table(released("dsg/instructblip_dsg.csv"))


def tifa160(rows: list[dict[str, str]]) -> dict[Key, dict[int, str]]:
    """Raw answers by (model, item) and question; vq2a numbers no questions."""
    answers: dict[Key, dict[int, str]] = {}
    for row in rows:
        if row["dsg_prompt_split"] == "tifa160":
            image = answers.setdefault((row["t2i_model"], row["item_id"]), {})
            image[int(row.get("question_id", len(image) + 1))] = row["answer"]
    return answers


def agreement(scores: dict[Key, float], likert: dict[Key, float]) -> tuple[float, float]:
    pairs = [(scores.get(key, 0.0), human) for key, human in likert.items()]
    rho, tau = (measure(*zip(*pairs, strict=True)) for measure in (spearman, kendall))
    assert isinstance(rho, float)
    assert isinstance(tau, float)
    return round(rho, 3), round(tau, 3)


def test_likert_scores_are_the_mean_of_their_workers(likert: dict[Key, float]) -> None:
    assert len(likert) == 800
    assert likert["mini-dalle", "tifa160_143"] == 4.4


def test_dsg_of_instructblip_agrees_with_people_as_published(
    dsg_rows: list[dict[str, str]], likert: dict[Key, float]
) -> None:
    dependencies = read_dependencies(
        (row["item_id"], int(row["question_id"]), row["dependency_id"]) for row in dsg_rows
    )
    with_parents, without = {}, {}
    for (model, item), answers in tifa160(dsg_rows).items():
        yes = {question: answer == "yes" for question, answer in answers.items()}
        with_parents[model, item] = dsg_score(yes, dependencies.parents[item], item)
        without[model, item] = dsg_score(yes, {}, item)
    # tifa160_134 has no answers, and counts 0 in the released code.
    assert {item for _, item in likert.keys() - without.keys()} == {"tifa160_134"}
    assert dsg_score({}, {}) == 0
    assert agreement(with_parents, likert) == (0.442, 0.364)
    assert agreement(without, likert) == (0.436, 0.355)
    # Leaving the item out gives other numbers.
    kept = {key: value for key, value in likert.items() if key in without}
    assert agreement(with_parents, kept) == (0.435, 0.358)


def test_a_dsg_answer_of_digits_is_no_yes(
    dsg_rows: list[dict[str, str]], likert: dict[Key, float]
) -> None:
    images = tifa160(dsg_rows)
    odd = {a for answers in images.values() for a in answers.values()} - {"yes", "no"}
    assert {answer[:6] for answer in odd} == {"100000", "no 100"}
    # Naive: what is not "no" is a yes.
    naive = {
        key: dsg_score({question: a != "no" for question, a in answers.items()}, {})
        for key, answers in images.items()
    }
    assert agreement(naive, likert) != (0.436, 0.355)


def test_a_malformed_row_drops_the_dependencies_of_its_item(released: Read) -> None:
    rows = [
        (row["item_id"], int(row["proposition_id"]), row["dependency"])
        for row in table(released("dsg/dsg-1k-anns.csv"))
    ]
    malformed_rows = [row for row in rows if any(letter.isalpha() for letter in row[2])]
    assert len(malformed_rows) == 10
    dependencies = read_dependencies(rows)
    assert dependencies.malformed == (
        "posescript_19",
        "posescript_41",
        "posescript_55",
        "posescript_69",
        "stanford_paragraph_54",
        "stanford_paragraph_55",
        "stanford_paragraph_72",
        "tifa160_67",
    )
    assert all(dependencies.parents[item] == {} for item in dependencies.malformed)
    assert dependencies.parents["tifa160_0"] == {1: (), 2: (), 3: (), 4: (1, 2), 5: (1, 3)}


@pytest.mark.parametrize(
    ("answerer", "known"), [("instructblip", (0.426, 0.352)), ("mplug", (0.212, 0.164))]
)
def test_vq2a_agrees_with_people_as_published(
    released: Read, likert: dict[Key, float], answerer: str, known: tuple[float, float]
) -> None:
    images = tifa160(table(released(f"dsg/{answerer}_vq2a.csv")))
    scores = mean_by_key((key, float(a == "yes")) for key in images for a in images[key].values())
    assert agreement(scores, likert) == known


def test_a_child_counts_when_its_own_parents_were_answered_yes() -> None:
    parents = {1: (), 2: (1,), 3: (2,)}
    assert dsg_score({1: True, 2: True, 3: True}, parents) == 1
    assert dsg_score({1: False, 2: True, 3: True}, parents) == pytest.approx(1 / 3)
    assert dsg_score({1: True, 2: False, 3: True}, parents) == pytest.approx(1 / 3)
    # A grandchild looks at its parent's raw answer, not at the zeroed one (which would give 0).
    assert dsg_score({1: False, 2: True, 3: True}, {}) == pytest.approx(2 / 3)


def test_a_parent_without_an_answer_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="item 'x': question 2 depends on question 7"):
        dsg_score({1: True, 2: True}, {2: (7,)}, "x")


@pytest.mark.parametrize(
    ("score", "known"),
    [
        ("tifa_mplug-large", (0.5967, 0.5922, 0.4717)),
        ("tifa_blip2-flant5xl", (0.5590, 0.5581, 0.4360)),
        ("clipscore_vitb32", (0.3318, 0.3198, 0.2314)),
        ("bleu", (0.1833, 0.2590, 0.1879)),
    ],
)
def test_tifa_scores_agree_with_people_as_known(
    released: Read, score: str, known: tuple[float, float, float]
) -> None:
    images = json.loads(released("tifa/human_annotations_with_scores.json")).values()
    pair = [image[score] for image in images], [image["human_avg"] for image in images]
    values = [measure(*pair) for measure in (pearson, spearman, kendall)]
    assert [round(float(value), 4) for value in values] == list(known)
    if score == "tifa_mplug-large":  # the number that TIFA's notebook calls Spearman's is Pearson's
        assert round(float(pearson(*pair)), 4) == 0.5967
        assert round(float(spearman(*pair)), 4) != 0.5967


@pytest.mark.parametrize(
    ("score", "known"),
    [
        ("CLIP Score", (0.343, 0.236)),
        ("X-CLIP Score", (0.257, 0.175)),
        ("T2VScore-A (GPT-4V)", (0.477, 0.353)),
    ],
)
def test_t2v_scores_agree_with_people_as_published(
    released: Read, score: str, known: tuple[float, float]
) -> None:
    humans = json.loads(released("t2vscore/t2vscore_alignment_score.json"))
    rows = table(released("t2vscore/t2vscore_results.csv"))
    scores = {(row["model_name"], row["video_id"]): float(row[score]) for row in rows}
    means = mean_by_key(
        ((model, video), value)
        for video, entry in humans.items()
        for model, values in entry["models"].items()
        for value in values
    )
    assert len(means) == 2543
    assert agreement(scores, means) == known


@pytest.mark.parametrize("measure", [pearson, spearman, kendall])
def test_constant_scores_have_no_correlation_and_say_so(measure: Callable) -> None:
    assert measure([0.3] * 3, [1, 2, 3]) == Undefined("all 3 values equal 0.3")
    assert measure([1, 2, 3], [0.1 + 0.2, 0.3, 0.3]) == Undefined("all 3 values equal 0.3")
    assert measure([0, 0], [1, 2]) == Undefined("all 2 values equal 0")
    assert measure([1], [2]) == Undefined("a correlation needs 2 items, there are 1")
    assert isinstance(measure([], []), Undefined)


@pytest.mark.parametrize("measure", [pearson, spearman, kendall])
def test_values_that_cannot_be_paired_are_errors(measure: Callable) -> None:
    with pytest.raises(EvaluationError, match="finite"):
        measure([1, float("nan")], [1, 2])
    with pytest.raises(EvaluationError, match="one length"):
        measure([1, 2, 3], [1, 2])


@given(st.lists(st.tuples(FINITE, FINITE), min_size=2, max_size=30))
def test_correlations_are_symmetric_and_turn_with_their_sign(
    pairs: list[tuple[float, float]],
) -> None:
    first, second = zip(*pairs, strict=True)
    for measure in (pearson, spearman, kendall):
        value = measure(first, second)
        if isinstance(value, Undefined):
            continue
        assert -1 - 1e-9 <= value <= 1 + 1e-9
        assert measure(second, first) == pytest.approx(value, abs=1e-9)
        assert measure([-v for v in first], second) == pytest.approx(-value, abs=1e-9)


def test_means_by_key_refuse_what_is_no_number() -> None:
    assert mean_by_key([("a", 1.0), ("b", 0.0), ("a", 0.0)]) == {"a": 0.5, "b": 0.0}
    with pytest.raises(EvaluationError, match="'a' has the value nan"):
        mean_by_key([("a", float("nan"))])
