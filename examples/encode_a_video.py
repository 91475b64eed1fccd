"""A clip to codes and back: `python examples/encode_a_video.py [FOLDER] [OUT.gif]`.

Codes come as the frames do, one latent frame for the first frame and one for each four behind it,
and are the same as those of the whole clip. FOLDER holds videos, of which the first clip is taken;
without it the clip is a simulated one. OUT.gif is runs/clip.gif by default.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from genvlm.config.assets import resolve_path
from genvlm.config.data import VideosSource
from genvlm.data.clips import read_clips
from genvlm.data.physics.scenes import sample_clips
from genvlm.data.skipping import SkipBudget
from genvlm.errors import GenvlmError
from genvlm.tokenization.video import load_video_tokenizer

NUM_FRAMES = 17


def main(folder: str | None = None, out: str = "runs/clip.gif") -> Path:
    """Write the clip beside its reconstruction and return that file."""
    tokenizer = load_video_tokenizer(resolve_path("tokenizers/video-64"))
    if folder is None:
        frames = next(sample_clips(1, seed=0, num_frames=NUM_FRAMES)).render()
    else:
        source = VideosSource(path=folder, num_frames=NUM_FRAMES)
        frames = next(read_clips(source, SkipBudget())).frames

    latent_frames = []
    for codes in tokenizer.encode_stream(frames):
        latent_frames.append(codes)
        print(f"latent frame {len(latent_frames)}: {codes.size} codes, {codes[0, :4].tolist()} ...")
    np.testing.assert_array_equal(np.stack(latent_frames), tokenizer.encode([frames])[0])

    (decoded,) = tokenizer.decode([np.stack(latent_frames)])
    (first,) = tokenizer.decode([np.stack(latent_frames[:1])])  # a picture is the case of one frame
    assert np.abs(first[0].astype(int) - decoded[0]).max() <= 1

    beside = np.concatenate([tokenizer.fit(frames), decoded], axis=2)
    pictures = [Image.fromarray(frame) for frame in beside]
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(out, save_all=True, append_images=pictures[1:], duration=100, loop=0)
    return Path(out)


if __name__ == "__main__":
    try:
        print(main(*sys.argv[1:3]))
    except GenvlmError as error:
        sys.exit(f"encode_a_video: {error}")
