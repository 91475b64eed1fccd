"""What turns the texts, pictures and clips of samples into tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genvlm.config.data import CameraSource, MovingEmojiSource, PhysicsSource, VideosSource
from genvlm.data.shards import Whose
from genvlm.data.sources import NumberedSource, Visual
from genvlm.errors import ConfigError, DataError
from genvlm.tokenization.image import ImageTokenizer
from genvlm.tokenization.text import TextTokenizer
from genvlm.tokenization.video import VideoTokenizer


@dataclass(frozen=True, kw_only=True)
class Tokenizers:
    """What turns texts, pictures and clips into tokens."""

    text: TextTokenizer
    image: ImageTokenizer
    video: VideoTokenizer | None = None
    """None: documents hold no clips."""
    max_side: int = 0
    """Most rows and columns of codes of a picture that keeps its shape; 0: all become square."""

    @property
    def whose(self) -> Whose:
        """Their fingerprints."""
        return Whose(
            text_tokenizer=self.text.fingerprint,
            image_tokenizer=self.image.fingerprint,
            video_tokenizer=self.video.fingerprint if self.video is not None else None,
            max_side=self.max_side,
        )

    @property
    def codebook_size(self) -> int:
        """Of the image or the video tokenizer, whichever has more codes."""
        sizes = [self.image.config.codebook_size]
        if self.video is not None:
            sizes.append(self.video.config.image.codebook_size)
        return max(sizes)

    def fit(self, visual: Visual) -> Visual:
        """A picture or clip as its tokenizer takes it.

        Raises:
            DataError: a clip without a video tokenizer, or of a length that does not fit it.
        """
        if visual.ndim == 3:
            return self.image.fit(visual, self.max_side)
        if self.video is None:
            raise DataError("it is a clip, and there is no video tokenizer: set tokenizers.video")
        try:
            self.video.config.num_latents(len(visual))
        except ConfigError as error:
            raise DataError(str(error)) from None
        return self.video.fit(visual)

    def encode(self, visuals: Sequence[Visual]) -> list[np.ndarray]:
        """Codes of fitted pictures (rows, columns) and clips (frames, rows, columns)."""
        pictures = [v for v in visuals if v.ndim == 3]
        if self.max_side:
            grids = iter(self.image.encode_sized(pictures, self.max_side))
        else:
            grids = iter(list(self.image.encode(pictures)))
        clips = [v for v in visuals if v.ndim == 4]
        videos = iter(self.video.encode(clips) if self.video is not None else [])
        return [next(grids) if v.ndim == 3 else next(videos) for v in visuals]


def check_clips(sources: Sequence[NumberedSource], tokenizers: Tokenizers) -> None:
    """Before anything is read: whether the tokenizers take the clips of all sources.

    Raises:
        ConfigError: there is no video tokenizer, or `num_frames` does not fit it.
    """
    for number, source in sources:
        if not isinstance(source, PhysicsSource | MovingEmojiSource | CameraSource | VideosSource):
            continue
        if tokenizers.video is None:
            raise ConfigError(
                f"data.sources.{number}, of kind {source.kind}, holds videos: set tokenizers.video "
                "to a video tokenizer, or leave it out"
            )
        try:
            tokenizers.video.config.num_latents(source.num_frames)
        except ConfigError as error:
            raise ConfigError(f"data.sources.{number}.num_frames: {error}") from None
