"""Pictures of evaluations that are kept out of training."""

from pathlib import Path

import pytest

from genvlm.config.curation import EvaluationPicturesRule
from genvlm.data.curation.documents import evaluation_pictures
from genvlm.data.emoji import load_concepts, split_concepts
from genvlm.errors import ConfigError, DataError
from genvlm.testing.files import picture_bytes, write_files


def test_our_own_evaluations_are_all_of_fluent_and_the_held_out_of_the_others() -> None:
    names = [name for name, _ in evaluation_pictures(EvaluationPicturesRule(emoji=True))]
    held_out = {f"noto: {concept.label}" for concept in split_concepts(held_out=True)}
    assert {name for name in names if name.startswith("noto")} == held_out
    assert sum(name.startswith("fluent") for name in names) == len(load_concepts())


def test_folders_are_read_whole_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, {"a/b/c.PNG": picture_bytes(), "a/b.jpg": picture_bytes(), "a/x.txt": ""})
    rule = EvaluationPicturesRule(folders=(str(tmp_path / "a"),))
    assert [Path(name).name for name, _ in evaluation_pictures(rule)] == ["c.PNG", "b.jpg"]
    with pytest.raises(DataError, match="no pictures in"):
        list(evaluation_pictures(EvaluationPicturesRule(folders=(str(tmp_path / "b"),))))
    with pytest.raises(ConfigError, match="needs `folders`"):
        EvaluationPicturesRule()
