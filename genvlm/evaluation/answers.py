"""Parsing of raw answers: yes or no, option letters, option numbers, open answers. Pure functions.

A parse gives None (or says `unparseable`, `refused`) where the text decides nothing, so that
coverage can be reported; the exceptions are official rules that always decide, and they say so.
"""

import re
from collections.abc import Sequence
from typing import Literal

from genvlm.errors import EvaluationError

_REFUSAL = re.compile(
    r"\b(neither|none of|sorry|cannot|can't|can\u2019t|unable to|not able to)\b", re.IGNORECASE
)

# Not followed by a second letter, as in "A or B".
_ALONE = r"(?!\s*(?:[,/&]|or\b|and\b)\s*\W?[A-Z]\b)"
# "The answer is A dog": A is an article before a small letter, but for "is".
_NAMED = (
    r"\b(?:[Aa]nswer|[Oo]ption|[Cc]hoice)\b(?:\s+is)?\s*:?\s*\W?"
    r"([B-Z]\b|A\b(?!\s+(?!is\b)[a-z]))"
)

# Words whose apostrophe people leave out. The official table of VQA pairs each with its spellings
# that lack exactly one apostrophe; "shed", "well", "wed", "id" are English words and not in it. It
# turns "somebody'd" into "somebodyd", the others the other way round: no comparison differs.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd somebody'd've somebody'll somebody's someone'd someone'd've
someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're
you've
""".split()  # noqa: SIM905 (ninety quoted words read worse)
_APOSTROPHES = {
    word[:at] + word[at + 1 :]: word
    for word in _CONTRACTIONS
    for at, letter in enumerate(word)
    if letter == "'"
}
_DIGITS = {
    **{"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5"},
    **{"six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"},
}
_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'


def pope_yes(text: str) -> bool:
    """POPE's official parse: True for yes. Never undecided: what does not say no is a yes.

    Only the text before the first full stop counts, commas are dropped, and one of the words "No",
    "not", "no" (so spelled, between single blanks) makes it a no. "NO" and "No!" are thus a yes.
    Source: Li et al. 2023, https://arxiv.org/abs/2305.10355, evaluate.py of their repository.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "not", "no"} & set(words)


def yes_no(text: str) -> bool | None:
    """True for yes, False for no, None when the text says neither or both, as whole words.

    Upper and lower case are the same. Digits that a model could not stop writing ("yes 1000...",
    "1000...") are no words: the first is a yes, the second None.
    """
    said = set(re.findall(r"\b(yes|no)\b", text.lower()))
    return said == {"yes"} if len(said) == 1 else None


def option_letter(text: str, letters: Sequence[str]) -> str | None:
    """The option that an answer names, among capital `letters`; None when none or several.

    Read in this order, and the first form that occurs decides:
    1. the whole answer is one letter: "B", "b", "(B).";
    2. the answer opens with a marked letter: "B. some text", "(B) some text", "B: ...", "B is ...";
    3. a letter after "answer", "option" or "choice": "The answer is (B).";
    4. a letter in round brackets: "I would say (B)".
    A letter that is not an option ("C" of A and B) gives None, and so do two letters of one form.
    """
    whole = re.fullmatch(r"\W*([A-Za-z])\W*", text)
    if whole:
        return _only({whole[1].upper()}, letters)
    opening = re.match(rf"\W*([A-Z])(?:[).:\]]|,(?!\s*\W?[A-Z]\b)|\s+is\b){_ALONE}", text)
    if opening:
        return _only({opening[1]}, letters)
    for pattern in (rf"{_NAMED}{_ALONE}", r"\(([A-Z])\)"):
        found = set(re.findall(pattern, text))
        if found:
            return _only(found, letters)
    return None


def numbered_option(text: str, num_options: int) -> int | Literal["refused", "unparseable"]:
    """The option, counted from 0, that an answer names by its number in brackets, "(1)".

    An answer that names exactly one option chooses it, even after "Neither caption is right, but
    if I must choose: (2)". Any other answer is refused when it declines in words, else unparseable:
    also a number without brackets, which the published counts of SugarCrepe do not take.
    """
    # Few digits: models that cannot stop write runs of thousands, which int() refuses.
    numbers = {int(digits) for digits in re.findall(r"\((\d{1,3})\)", text)}
    options = [number for number in numbers if 1 <= number <= num_options]
    if len(options) == 1:
        return options[0] - 1
    return "refused" if _REFUSAL.search(text) else "unparseable"


def normalize_open_answer(text: str) -> str:
    """VQA's normalisation: punctuation, number words, articles, apostrophes, lower case.

    A punctuation mark becomes a blank inside a word ("t-shirt" -> "t shirt") and nothing beside a
    blank anywhere in the text, or where the text holds a number such as "1,000"; a full stop goes
    unless a digit follows. These are the official rules, oddities included: "none" is "0".
    Source: Antol et al. 2015, https://arxiv.org/abs/1505.00468, vqaEval.py of their repository.
    """
    has_comma_number = re.search(r"\d,\d", text) is not None
    result = text
    for mark in _PUNCTUATION:
        apart = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if apart or has_comma_number else " ")
    result = re.sub(r"\.(?!\d)", "", result)
    words = [_DIGITS.get(word, word) for word in result.lower().split()]
    return " ".join(_APOSTROPHES.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, annotators: Sequence[str]) -> float:
    """Accuracy of one open answer in [0, 1], against the answers of usually ten annotators.

    Each annotator is left out in turn, and the answer earns min(matches among the others / 3, 1);
    the mean over annotators is 0, .3, .6, .9, 1 for 0 to 4 matches of ten. Annotators count by
    position, so equal answers are never dropped. The official code normalises only when the
    annotators disagree: where all ten say "2", "two" earns nothing.

    Raises:
        EvaluationError: fewer than two annotators.
    """
    if len(annotators) < 2:
        raise EvaluationError(
            f"VQA accuracy leaves one annotator out, so it needs at least 2 answers, got "
            f"{len(annotators)}"
        )
    answer = re.sub(r"[\n\t]", " ", answer).strip()
    truths = [re.sub(r"[\n\t]", " ", truth).strip() for truth in annotators]
    if len(set(truths)) > 1:
        answer, truths = normalize_open_answer(answer), [normalize_open_answer(t) for t in truths]
    matches = [truth == answer for truth in truths]
    total = sum(matches)
    return sum(min((total - match) / 3, 1.0) for match in matches) / len(matches)


def match_choice(text: str, choices: Sequence[str]) -> str | None:
    """The choice that equals the answer after `normalize_open_answer`; None when none or several.

    TIFA's own code picks the choice nearest in a sentence embedding, so that every answer is some
    choice; that model is not shipped, and None says that the answer is none of them. In the
    released sample this concerns 1 answer of 19 ("0" among 1 to 4, wrong either way).
    """
    answer = normalize_open_answer(text)
    found = [choice for choice in choices if normalize_open_answer(choice) == answer]
    return found[0] if len(found) == 1 else None


def _only(found: set[str], letters: Sequence[str]) -> str | None:
    (letter, *others) = found
    return letter if not others and letter in letters else None
