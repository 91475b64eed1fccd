"""genvlm's own files: captioned pictures, and interleaved documents, a JSON object a line."""

from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from genvlm.config.data import CaptionsSource, DocumentsSource
from genvlm.data.layouts.samples import image_file, image_pair
from genvlm.data.raw import RawDocument
from genvlm.data.readers import GapFile, VideoFile, read_captions, read_documents


def read_caption_lines(source: CaptionsSource) -> Iterator[RawDocument]:
    """Pairs; a picture that is listed again without an id is `cat.png#2`."""
    pairs = read_captions(Path(source.path))
    taken = {pair.id for pair in pairs}
    times: Counter[str] = Counter()
    for pair in pairs:
        times[pair.id] += 1
        sample_id = pair.id
        if times[pair.id] > 1:
            numbered = (f"{pair.id}#{number}" for number in count(times[pair.id]))
            sample_id = next(name for name in numbered if name not in taken)
            taken.add(sample_id)
        yield image_pair(sample_id, pair.text, image_file(pair.image))


def read_document_lines(source: DocumentsSource) -> Iterator[RawDocument]:
    """Interleaved documents."""
    for document in read_documents(Path(source.path)):
        segments = tuple(
            s if isinstance(s, str) else image_file(s)
            for s in document.segments
            if not isinstance(s, GapFile | VideoFile)  # of prompts, never of training documents
        )
        loss = tuple(document.loss) if document.loss is not None else None
        yield RawDocument(id=document.id, segments=segments, kind="document", loss=loss)
