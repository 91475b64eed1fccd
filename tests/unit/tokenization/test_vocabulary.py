import numpy as np
import pytest

from genvlm.errors import TokenError
from genvlm.tokenization.vocabulary import Codebook, Vocabulary

IMAGE = Codebook(16, "a" * 64)
CASES = {
    "no video": Vocabulary(image=IMAGE, text_size=50),
    "shared": Vocabulary(image=IMAGE, text_size=50, video=Codebook(16, "a" * 64)),
    "own": Vocabulary(image=IMAGE, text_size=50, video=Codebook(9, "b" * 64)),
}
every_vocabulary = pytest.mark.parametrize("v", CASES.values(), ids=CASES.keys())


@every_vocabulary
def test_ranges_are_contiguous_and_cover_every_id_once(v: Vocabulary) -> None:
    ranges = [v.image_range, v.control_range, v.text_range]
    if not v.video_shares_image:
        ranges.insert(1, v.video_range)
    ids = [i for r in ranges for i in r]
    assert ids == list(range(v.size))


@every_vocabulary
def test_what_text_allows_is_one_slice(v: Vocabulary) -> None:
    begins_video = {v.bov} if v.video is not None else set()
    assert set(v.text_state_range) == {v.eos, v.boi, *begins_video, *v.text_range}
    assert not {v.eov, v.eoi, v.pad, v.bos} & set(v.text_state_range)


@every_vocabulary
def test_end_of_video_stands_right_behind_the_last_codebook(v: Vocabulary) -> None:
    assert v.eov == max(v.image_range.stop, v.video_range.stop)


def test_video_shares_the_image_range_only_with_the_same_codebook() -> None:
    assert CASES["shared"].video_range == CASES["shared"].image_range
    assert CASES["own"].video_range == range(16, 25)
    assert len(CASES["no video"].video_range) == 0


@every_vocabulary
def test_ids_round_trip(v: Vocabulary) -> None:
    codes = np.arange(16).reshape(4, 4)
    np.testing.assert_array_equal(v.image_codes(v.image_tokens(codes)), codes)
    pieces = list(range(50))
    assert v.text_pieces(v.text_tokens(pieces)) == pieces
    if v.video is not None:
        clip = np.arange(v.video.size)
        np.testing.assert_array_equal(v.video_codes(v.video_tokens(clip)), clip)


@pytest.mark.parametrize("code", [-1, 16])
def test_a_code_outside_the_codebook_is_named(code: int) -> None:
    with pytest.raises(TokenError, match=rf"expected image codes 0\.\.15, got 3\.\.{code}|{code}"):
        CASES["own"].image_tokens(np.array([3, code]))


def test_tokens_of_another_kind_are_named() -> None:
    v = CASES["own"]
    with pytest.raises(TokenError, match=r"only image tokens \(ids 0\.\.15\), got ids 3\.\.16"):
        v.image_codes(np.array([3, 16]))
    with pytest.raises(TokenError, match="only text tokens"):
        v.text_pieces(np.array([v.bov]))
    with pytest.raises(TokenError, match="text codes"):
        v.text_tokens([50])
    with pytest.raises(TokenError, match="video"):
        CASES["no video"].video_tokens(np.array([0]))


def test_empty_runs_are_fine() -> None:
    v = CASES["own"]
    assert v.text_pieces(v.text_tokens([])) == []
    assert v.image_codes(np.zeros(0, np.int64)).size == 0


def test_fingerprints_of_vocabularies_differ() -> None:
    payloads = [str(v.fingerprint_payload()) for v in CASES.values()]
    assert len(set(payloads)) == 3
