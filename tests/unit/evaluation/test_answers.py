import json
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genvlm.errors import EvaluationError
from genvlm.evaluation.answers import (
    match_choice,
    normalize_open_answer,
    numbered_option,
    option_letter,
    pope_yes,
    vqa_accuracy,
    yes_no,
)

Read = Callable[[str], str]


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# POPE, yes and no


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("Yes", True),
        ("No", False),
        ("No, there is no dog. Yes.", False),
        ("Yes. No dog is there", True),
        ("There is not a dog", False),
        ("", True),
        ("I am not sure", False),
        ("NO", True),  # the official spelling is case-sensitive
        ("No!", True),
        ("Nothing", True),
    ],
)
def test_pope_reads_the_first_sentence_and_calls_what_is_no_no_a_yes(text: str, yes: bool) -> None:
    assert pope_yes(text) is yes


@pytest.mark.parametrize(
    ("split", "n", "counts", "f1"),
    [
        ("random", 2910, (1182, 31, 318), 87.14),
        ("popular", 3000, (1182, 59, 318), 86.25),
        ("adversarial", 3000, (1182, 117, 318), 84.46),
    ],
)
def test_pope_of_llava_has_its_known_f1(
    released: Read, split: str, n: int, counts: tuple[int, int, int], f1: float
) -> None:
    rows = [r for r in lines(released("pope_llava15_13b.jsonl")) if r["category"] == split]
    pairs = Counter((pope_yes(row["text"]), row["label"]) for row in rows)
    right, wrong, missed = pairs[True, "yes"], pairs[True, "no"], pairs[False, "yes"]
    assert (len(rows), (right, wrong, missed)) == (n, counts)
    assert round(100 * 2 * right / (2 * right + wrong + missed), 2) == f1


def test_pope_answers_joined_by_line_give_chance(released: Read) -> None:
    answers = [
        pope_yes(row["text"])
        for row in lines(released("pope_llava15_13b.jsonl"))
        if row["category"] == "random"
    ]
    # The random split once had 2,910 rows and now has 3,000: line k is another question.
    labels = [row["label"] == "yes" for row in lines(released("pope/coco_pope_random.json"))]
    agree = sum(a == b for a, b in zip(answers, labels, strict=False))
    assert len(labels) == 3000
    assert round(100 * agree / len(answers), 1) == 50.2


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("yes", True),
        ("Yes, it is.", True),
        ("NO", False),
        ("no\n<1000000", False),
        ("yes 1000000", True),
        ("1000000", None),
        ("", None),
        ("yes and no", None),
        ("Nothing, I know", None),
    ],
)
def test_yes_or_no_is_undecided_when_neither_or_both_are_said(
    text: str, answer: bool | None
) -> None:
    assert yes_no(text) is answer


@given(st.text(alphabet="yesno .,!1", max_size=12))
def test_pope_agrees_with_a_single_plain_yes_or_no(noise: str) -> None:
    assert pope_yes("no ." + noise) is False
    assert pope_yes("yes." + noise) is True


# Letters


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        (" B. ", "B"),
        ("B. some text", "B"),
        ("(B) some text, not (C)", "B"),
        ("B: some text", "B"),
        ("B is the run-on sentence.", "B"),
        ("A is a complete sentence.", "A"),
        ("The answer is B.", "B"),
        ("The answer is (B) because A comes later", "B"),
        ("Answer: B", "B"),
        ("Option C", "C"),
        ("option A is right", "A"),
        ("The answer is B because of the light", "B"),
        ("B, some text", "B"),
        ("I would say (B).", "B"),
        ("", None),
        ("E", None),
        ("E. some text", None),
        ("A dog runs", None),
        ("The answer is A dog", None),
        ("A or B", None),
        ("A. or B.", None),
        ("(A) or (B)", None),
        ("A, B", None),
        ("The answer is A or B", None),
        ("The answer is B or C", None),
        ("maybe (A), maybe (B)", None),
        ("The answer is A. The answer is B.", None),
        ("Cinder", None),
        ("none", None),
    ],
)
def test_a_letter_is_read_from_free_text_or_not_at_all(text: str, letter: str | None) -> None:
    assert option_letter(text, "ABCD") == letter


def test_scienceqa_of_llava_has_its_known_accuracies(released: Read) -> None:
    rows = lines(released("scienceqa_llava15_13b.jsonl"))
    letters = [option_letter(row["pred"], row["options"]) for row in rows]
    right = [letter == row["ground_truth"] for letter, row in zip(letters, rows, strict=True)]
    image = [r for r, row in zip(right, rows, strict=True) if row["is_multimodal"]]
    assert (sum(right), len(right)) == (3158, 4241)  # 74.46
    assert (sum(image), len(image)) == (1445, 2017)  # 71.64
    # Three answers such as "A is a complete sentence." fail the official parse: 74.39 there.
    spelled = [r for r, row in zip(right, rows, strict=True) if row["pred"][1:5] == " is "]
    assert spelled == [True] * 3
    assert round(100 * (sum(right) - 3) / len(right), 4) == 74.3928
    # 33 of the 35 unread answers name a letter that is no option, such as "C" of A and B.
    assert letters.count(None) == 35


# Numbers in brackets

GPT4V = {
    "add_att": ((87.28, 96.24), 85.84, (20, 11)),
    "replace_att": ((93.15, 93.91), 89.97, (11, 9)),
    "swap_att": ((91.14, 89.04), 82.73, (15, 8)),
}


@pytest.mark.parametrize("category", GPT4V)
def test_gpt4v_chooses_as_the_released_files_say(released: Read, category: str) -> None:
    (first, second), both, invalid = GPT4V[category]
    right: list[dict[str, bool]] = []
    for order, percent, num_invalid in zip(
        ("positive", "negative"), (first, second), invalid, strict=True
    ):
        file = json.loads(released(f"sugarcrepe_gpt4v/{order}-first/gpt4v-{category}.json"))
        items = {key: value for key, value in file.items() if isinstance(value, dict)}
        chosen = {
            key: numbered_option(item["answer"]["free_form_answer"], 2)
            for key, item in items.items()
        }
        for key, item in items.items():
            texts = [item["caption"], item["negative_caption"]]
            shown = texts if order == "positive" else texts[::-1]
            official = item["answer"]["multiple_choice_answer"]
            said = chosen[key]
            assert official == (shown[said] if isinstance(said, int) else "")
        right.append({key: chosen[key] == (order == "negative") for key in items})
        assert [right[-1][key] for key in items] == [item["correct"] for item in items.values()]
        assert round(100 * sum(right[-1].values()) / len(items), 2) == percent
        assert Counter(map(type, chosen.values()))[str] == num_invalid
        assert "unparseable" not in chosen.values()
    assert (
        round(100 * sum(right[0][k] and right[1][k] for k in right[0]) / len(right[0]), 2) == both
    )


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("(1)", 0),
        ("Output (2).", 1),
        ("2.", "unparseable"),
        ("Neither is accurate, but if I must choose: (2)", 1),
        ("Neither (1) nor (2)", "refused"),
        ("None of the captions fits. A better one: (3) A dog", "refused"),
        ("I\u2019m sorry, I can\u2019t assist", "refused"),
        ("(1) or (2)", "unparseable"),
        ("A dog", "unparseable"),
        ("(3)", "unparseable"),
        ("2 dogs", "unparseable"),
        pytest.param("1" + "0" * 5000, "unparseable", id="a run of digits"),
        ("", "unparseable"),
    ],
)
def test_an_option_number_is_chosen_refused_or_unparseable(text: str, chosen: int | str) -> None:
    assert numbered_option(text, 2) == chosen


# Open answers


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Dog.", "dog"),
        ("two", "2"),
        ("none", "0"),
        ("3.5", "3.5"),
        ("1,000", "1000"),
        ("t-shirt", "t shirt"),
        ("yes, it is", "yes it is"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("shed", "shed"),
        ("a/b", "b"),
        ("what?", "what"),
        ("  an   apple ", "apple"),
    ],
)
def test_open_answers_are_normalised_as_vqa_does(text: str, normal: str) -> None:
    assert normalize_open_answer(text) == normal


@pytest.mark.parametrize(
    ("matches", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)]
)
def test_vqa_accuracy_leaves_each_annotator_out(matches: int, expected: float) -> None:
    annotators = ["dog"] * matches + [f"cat {k}" for k in range(10 - matches)]
    assert vqa_accuracy("dog", annotators) == pytest.approx(expected)
    if matches in (1, 2, 3):  # the short cut min(k / 3, 1) is too generous
        assert min(matches / 3, 1) > expected


def test_equal_vqa_answers_are_never_dropped() -> None:
    annotators = ["dog"] * 10
    # The official loop compares records; without answer_id equal ones vanish together.
    naive = [
        min(sum(o == "dog" for o in annotators if o != left_out) / 3, 1) for left_out in annotators
    ]
    assert sum(naive) == 0
    assert vqa_accuracy("dog", annotators) == 1


def test_vqa_normalises_only_when_annotators_disagree() -> None:
    assert vqa_accuracy("two", ["2"] * 10) == 0
    assert vqa_accuracy("two", ["2"] * 9 + ["3"]) == 1
    assert vqa_accuracy("The dog.", ["dog"] * 9 + ["A Dog"]) == 1
    assert vqa_accuracy("dog\n", [" dog"] * 10) == 1


def test_vqa_needs_someone_to_leave_out() -> None:
    with pytest.raises(EvaluationError, match="at least 2 answers, got 1"):
        vqa_accuracy("dog", ["dog"])


@given(st.text(), st.lists(st.text(), min_size=2, max_size=12))
def test_vqa_accuracy_is_a_share_and_ignores_the_order_of_annotators(
    answer: str, annotators: list[str]
) -> None:
    accuracy = vqa_accuracy(answer, annotators)
    assert 0 <= accuracy <= 1
    assert vqa_accuracy(answer, annotators[::-1]) == pytest.approx(accuracy)


def test_a_choice_is_matched_exactly_after_normalisation() -> None:
    assert match_choice("The beach.", ["beach", "park"]) == "beach"
    assert match_choice("two", ["1", "2", "3"]) == "2"
    assert match_choice("shore", ["beach", "park"]) is None
    assert match_choice("dog", ["dog", "a dog"]) is None


def test_tifa_sample_answers_match_the_released_choices(released: Read) -> None:
    details = json.loads(released("tifa/sample_evaluation_result.json"))["question_details"]
    questions = [question for image in details.values() for question in image.values()]
    matched = [match_choice(q["free_form_vqa"], q["choices"]) for q in questions]
    odd = [
        (q["free_form_vqa"], q["multiple_choice_vqa"], match)
        for q, match in zip(questions, matched, strict=True)
        if match != q["multiple_choice_vqa"]
    ]
    assert odd == [("0", "1", None)]  # their sentence embedding takes 0 for 1; both are wrong
    scores = [float(m == q["answer"]) for q, m in zip(questions, matched, strict=True)]
    assert scores == [q["scores"] for q in questions]
