"""Documents with videos: drawn behind a text, told of while they are drawn, ended in time."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from genvlm.errors import TokenError
from genvlm.generation.interleaved import sample_documents, stream_documents
from genvlm.generation.sampling import SamplingSettings
from genvlm.generation.stream import (
    DocumentDone,
    Event,
    ImageDone,
    ImageProgress,
    VideoDone,
    VideoProgress,
    VideoStarted,
)
from genvlm.models.pretrained import PretrainedModel
from genvlm.testing.tiny import tiny_pretrained
from genvlm.tokenization.document import Document, Image, Segment, Text, Video, encode_document

CLIP = Video(np.arange(12).reshape(3, 2, 2))
PROMPTS: list[list[Segment]] = [[Text("a red square")], [CLIP, Text("blue")], []]
WILD = SamplingSettings(temperature=4)


@pytest.fixture(scope="module", params=[False, True], ids=["one codebook", "two codebooks"])
def pretrained(request: pytest.FixtureRequest) -> PretrainedModel:
    """Eager to draw: BOI and BOV have a weight that makes them likely."""
    made = tiny_pretrained(
        resolution=8, context_length=70, video=True, own_video_codes=request.param,
        dtype=torch.float64,
    )  # fmt: skip

    def add(_module: object, _inputs: object, named: dict, logits: torch.Tensor) -> torch.Tensor:
        ids = named.get("ids") or range(made.vocabulary.size)
        bias = torch.zeros(made.vocabulary.size, dtype=logits.dtype)
        bias[[made.vocabulary.boi, made.vocabulary.bov]] = 14
        return logits + bias[ids.start : ids.stop]

    made.model.head.register_forward_hook(add, with_kwargs=True)
    return made


def test_a_video_of_the_length_that_is_asked_for_follows_the_prompt(
    pretrained: PretrainedModel,
) -> None:
    documents = sample_documents(
        pretrained, PROMPTS, WILD, seed=0, video_next=4, stop_after_visual=True
    )
    for prompt, document in zip(PROMPTS, documents, strict=True):
        assert len(document.segments) == len(prompt) + 1
        assert document.videos[-1].shape == (4, 2, 2)
        assert document.token_ids[-1] == pretrained.vocabulary.eov


def test_documents_with_images_and_videos_are_whole_and_end_in_time(
    pretrained: PretrainedModel,
) -> None:
    """Encoded again they are the same tokens, so that nothing is cut off within a video."""
    documents = sample_documents(pretrained, PROMPTS * 4, WILD, seed=1)
    for document in documents:
        encoded = encode_document(
            Document(id="d", segments=document.segments), pretrained.vocabulary,
            pretrained.text_tokenizer, grid=(2, 2),
        )  # fmt: skip
        visual = [i for i in document.token_ids if i not in pretrained.vocabulary.text_range]
        again = [i for i in encoded.token_ids if i not in pretrained.vocabulary.text_range]
        assert again[: len(visual)] == visual
        assert len(document.token_ids) <= 70
    drawn = [v for d in documents for v in d.videos if v.tolist() != CLIP.codes.tolist()]
    assert len({len(v) for v in drawn}) > 1
    assert any(d.images for d in documents)


def of_row(events: Sequence[Event], row: int) -> list[Event]:
    return [event for event in events if event.row == row]


def test_events_tell_of_videos_as_they_begin_grow_and_end(pretrained: PretrainedModel) -> None:
    events = list(stream_documents(pretrained, PROMPTS, WILD, seed=1))
    told, sampled = 0, sample_documents(pretrained, PROMPTS, WILD, seed=1)
    for row, document in enumerate(sampled):
        own = of_row(events, row)
        done = [e.codes.tolist() for e in own if isinstance(e, VideoDone)]
        prompted = sum(isinstance(s, Video) for s in PROMPTS[row])
        assert done == [codes.tolist() for codes in document.videos[prompted:]]
        images = [e.codes.tolist() for e in own if isinstance(e, ImageDone)]
        assert images == [s.codes.tolist() for s in document.segments if isinstance(s, Image)]
        told += len(done)
        num_latents = None
        grown = [event for event in own if isinstance(event, ImageProgress)]
        assert len(grown) == 4 * len(images)
        for event in own:
            match event:
                case VideoStarted():
                    num_latents = 0
                case VideoProgress(num_latents=n):
                    assert num_latents is not None
                    assert n == num_latents + 1
                    num_latents = n
                case VideoDone(codes=codes):
                    assert len(codes) == num_latents
                    num_latents = None
                case _:
                    assert num_latents is None  # nothing else is told within a video
    assert told >= 2


def test_a_video_that_the_prompt_begins_is_told_of(pretrained: PretrainedModel) -> None:
    events = stream_documents(
        pretrained, PROMPTS, WILD, seed=1, video_next=2, stop_after_visual=True
    )
    kinds = [type(e) for e in of_row(list(events), 1)]
    assert kinds == [VideoStarted, VideoProgress, VideoProgress, VideoDone, DocumentDone]


def test_a_video_that_cannot_follow_is_refused(pretrained: PretrainedModel) -> None:
    with pytest.raises(TokenError, match="the video of 16 latent frames that should follow"):
        sample_documents(pretrained, PROMPTS, WILD, seed=0, video_next=16)
    without = tiny_pretrained(resolution=8)
    with pytest.raises(TokenError, match="no video codebook: it draws no videos"):
        sample_documents(without, PROMPTS[:1], WILD, seed=0, video_next=1)
