"""Which latent frames are read when the next one is predicted, of videos longer than the context.

The first latent frame stays as anchor, and behind it slide the latest ones. What is read is a
document of its own: the anchor is its frame 0 and positions count on from there, so that no window
has a position which a clip that fills the context does not have. A model whose training clips were
shorter than its context meets later ones. Scoring and rollout share this.
"""

from genvlm.errors import TokenError


def frames_that_fit(context_length: int, num_text_tokens: int, codes_per_frame: int) -> int:
    """The most latent frames of `BOS text BOV frames EOV EOS` within the context."""
    return max(0, context_length - num_text_tokens - 4) // codes_per_frame


def window_frames(frame: int, most: int) -> tuple[int, ...]:
    """The latent frames that are read, in order, when latent frame `frame` is predicted.

    All before it, where they and it are no more than `most`; otherwise the anchor 0 and the last
    `most - 2` before it.

    Raises:
        TokenError: no room for the anchor, the frame before and the predicted one.
    """
    if frame < most:
        return tuple(range(frame))
    if most < 3:
        raise TokenError(
            f"the context holds {most} latent frames, and a longer video needs room for 3 (the "
            "first one, the one before, the predicted one): shorten the text or the video"
        )
    return 0, *range(frame - most + 2, frame)
