"""What all models that read pictures and texts have in common."""

from collections.abc import Callable
from pathlib import Path

import pytest

from genvlm.models.auxiliary.coca import CoCaModel
from genvlm.models.auxiliary.contrastive import ContrastiveModel
from genvlm.models.auxiliary.masked import MaskedModel
from genvlm.testing.tiny_auxiliary import tiny_coca, tiny_contrastive, tiny_masked
from genvlm.testing.tiny_projector import tiny_projector


@pytest.mark.parametrize("build", [tiny_contrastive, tiny_coca, tiny_masked])
def test_no_pictures_and_no_texts_are_embedded_as_nothing(
    build: Callable[[], ContrastiveModel | CoCaModel | MaskedModel],
) -> None:
    model = build()
    assert model.embed_images([]).shape == model.embed_texts([]).shape == (0, 8)


def test_no_pictures_are_projected_as_nothing(tmp_path: Path) -> None:
    model = tiny_projector(tmp_path, "genvlm")
    assert model.project([]).shape == (0, 16, model.language.model.width)
