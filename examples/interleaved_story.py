"""Sample an illustrated story: `python examples/interleaved_story.py MODEL OUT`."""

import sys
from pathlib import Path

from genvlm.generation.interleaved import sample_documents
from genvlm.generation.sampling import SamplingSettings
from genvlm.models.pretrained import load_pretrained
from genvlm.studies.samples import write_samples
from genvlm.tokenization.document import Text


def main(model: str, out: str, opening: str = "first, the penguin") -> Path:
    """Continue the opening freely: the model decides where pictures stand. Returns the page."""
    pretrained = load_pretrained(Path(model))
    settings = SamplingSettings(temperature=0.9, top_p=0.95)
    stories = sample_documents(pretrained, [[Text(opening)]] * 2, settings, seed=0)
    return write_samples(stories, pretrained, Path(out))


if __name__ == "__main__":
    print(main(*sys.argv[1:3]))
