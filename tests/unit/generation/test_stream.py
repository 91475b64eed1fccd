import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from genvlm.config.syntax import SyntaxConfig
from genvlm.generation.interleaved import sample_documents, stream_documents
from genvlm.generation.sampling import SamplingSettings
from genvlm.generation.stream import (
    DocumentDone,
    Event,
    ImageDone,
    ImageProgress,
    ImageStarted,
    TextPiece,
)
from genvlm.models.pretrained import PretrainedModel
from genvlm.testing.tiny import tiny_pretrained
from genvlm.tokenization.document import Image, Segment, Text
from genvlm.tokenization.vocabulary import Vocabulary

PICTURE = Image(np.array([[0, 5], [7, 15]]))
PROMPTS: list[list[Segment]] = [[], [Text("a red square")], [PICTURE, Text("blue")]]
SETTINGS = SamplingSettings(temperature=3)


@pytest.fixture(scope="module", params=[0, 3], ids=["fixed", "sized"])
def pretrained(request: pytest.FixtureRequest) -> PretrainedModel:
    """float64, eager to draw: BOI has a weight that makes it likely."""
    made = tiny_pretrained(
        resolution=8, context_length=200, dtype=torch.float64,
        syntax=SyntaxConfig(max_side=request.param),
    )  # fmt: skip

    def add(_module: object, _inputs: object, named: dict, logits: torch.Tensor) -> torch.Tensor:
        ids = named.get("ids") or range(made.vocabulary.size)
        bias = torch.zeros(made.vocabulary.size, dtype=logits.dtype)
        bias[made.vocabulary.boi] = 12
        return logits + bias[ids.start : ids.stop]

    made.model.head.register_forward_hook(add, with_kwargs=True)
    return made


def events_of(pretrained: PretrainedModel, **options: bool) -> list[Event]:
    return list(stream_documents(pretrained, PROMPTS, SETTINGS, seed=3, **options))


def of_row(events: Sequence[Event], row: int) -> list[Event]:
    return [e for e in events if e.row == row]


def test_events_tell_what_sample_documents_returns(pretrained: PretrainedModel) -> None:
    events = events_of(pretrained)
    sampled = sample_documents(pretrained, PROMPTS, SETTINGS, seed=3)
    num_images = 0
    for row, document in enumerate(sampled):
        own = of_row(events, row)
        last = own[-1]
        assert isinstance(last, DocumentDone)
        assert last.document.token_ids.tolist() == document.token_ids.tolist()
        assert sum(isinstance(e, DocumentDone) for e in own) == 1
        told = [e.codes.tolist() for e in own if isinstance(e, ImageDone)]
        prompted = sum(isinstance(s, Image) for s in PROMPTS[row])
        assert told == [codes.tolist() for codes in document.images[prompted:]]
        num_images += len(told)
        v, tokenizer = pretrained.vocabulary, pretrained.text_tokenizer
        assert texts_of(own) == [
            tokenizer.decode(v.text_pieces(np.array(run)))
            for run in text_runs(document.token_ids[document.num_prompt_tokens :].tolist(), v)
        ]
    assert num_images >= 3


def text_runs(token_ids: list[int], v: Vocabulary) -> list[list[int]]:
    grouped = itertools.groupby(token_ids, lambda i: i in v.text_range)
    return [list(run) for is_text, run in grouped if is_text]


def texts_of(events: Sequence[Event]) -> list[str]:
    """Runs of text between images, put together again."""
    grouped = itertools.groupby(events, lambda e: isinstance(e, TextPiece))
    return ["".join(e.text for e in run) for is_text, run in grouped if is_text]


def test_an_image_starts_grows_by_one_code_at_a_time_and_is_done(
    pretrained: PretrainedModel,
) -> None:
    for row in range(len(PROMPTS)):
        expected: list[int] = []
        for event in of_row(events_of(pretrained), row):
            match event:
                case ImageStarted(num_codes=n):
                    assert not expected
                    expected = list(range(1, n + 1))
                case ImageProgress(num_drawn=drawn):
                    assert drawn == expected.pop(0)
                case ImageDone(codes=codes):
                    assert not expected
                    assert codes.size == drawn


def test_an_image_that_the_prompt_begins_is_told_of(pretrained: PretrainedModel) -> None:
    events = events_of(pretrained, image_next=True, stop_after_visual=True)
    for row in range(len(PROMPTS)):
        own = of_row(events, row)
        done = [e for e in own if isinstance(e, ImageDone)]
        assert len(done) == 1
        progress = [e for e in own if isinstance(e, ImageProgress)]
        assert [p.num_drawn for p in progress] == list(range(1, done[0].codes.size + 1))
        assert {p.num_codes for p in progress} == {done[0].codes.size}
