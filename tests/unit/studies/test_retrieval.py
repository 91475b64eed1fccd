"""Galleries, what ranks them, and `genvlm eval retrieval`."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from genvlm.cli.main import main
from genvlm.data.images import image_digest, save_image
from genvlm.data.scenes import ICONS, RELATIONS, is_held_out
from genvlm.errors import ConfigError, EvaluationError
from genvlm.models.diffusion.folder import save_diffusion
from genvlm.models.pretrained import save_pretrained
from genvlm.scoring.contrastive import ContrastiveScorer, DualEncoderEmbedder
from genvlm.scoring.controls import LengthScorer
from genvlm.scoring.diffusion import DiffusionScorer
from genvlm.scoring.protocols import Grid, Scorer, ScorerInfo, Scores
from genvlm.scoring.relative import RelativeScorer
from genvlm.studies import retrieval
from genvlm.studies.retrieval import (
    Directions,
    captions_gallery,
    open_directions,
    run_retrieval,
    scene_gallery,
    score_gallery,
)
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained, write_tiny_captions
from genvlm.testing.tiny_auxiliary import tiny_contrastive
from genvlm.testing.tiny_diffusion import tiny_diffusion, tiny_diffusion_config


class SumScorer:
    """The picture's mean plus the text's number of letters; remembers what it was asked."""

    info = ScorerInfo(name="sum", unit="arbitrary")

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        self.asked += [(len(grid.images), len(grid.texts)) for grid in grids]
        return [
            Scores(np.array([[i.mean() + len(t) for t in grid.texts] for i in grid.images]))
            for grid in grids
        ]


def test_held_out_scenes_are_distinct_and_each_caption_is_true_of_one_picture_alone() -> None:
    gallery = scene_gallery(100)
    assert len({image_digest(image) for image in gallery.images}) == 100
    assert len(set(gallery.texts)) == 100
    icons = {icon.name: icon for icon in ICONS}
    pairs, relations = list[frozenset[str]](), Counter[str]()
    for caption in gallery.texts:
        relation = next(r for r in RELATIONS if f" {r} " in caption)
        first, second = caption.split(f" {relation} ")
        assert is_held_out(icons[first], icons[second])
        pairs.append(frozenset((first, second)))
        relations[relation] += 1
    # Each pair in all its four pictures, and each relation about as often.
    assert set(Counter(pairs).values()) == {4}
    assert min(relations.values()) > 10
    assert gallery.clusters is not None
    assert len(set(zip(pairs, gallery.clusters, strict=True))) == len(set(pairs)) == 25
    assert (gallery.relevant == np.eye(100)).all()
    assert scene_gallery(100).texts == gallery.texts
    assert scene_gallery(100, seed=1).texts != gallery.texts
    with pytest.raises(EvaluationError, match=r"there are \d+ pictures .* not 9999: ask for fewer"):
        scene_gallery(9999)


def write_lines(folder: Path, rows: Sequence[tuple[str, str]]) -> Path:
    lines = [json.dumps({"image": image, "text": text}) for image, text in rows]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_a_gallery_keeps_all_captions_of_a_picture_and_makes_one_of_what_is_the_same(
    tmp_path: Path,
) -> None:
    for number, (_, image) in enumerate(tiny_pairs()[:2]):
        save_image(image, tmp_path / f"{number}.png")
    save_image(tiny_pairs()[0][1], tmp_path / "same.png")
    rows = [("0.png", "a"), ("0.png", "b"), ("1.png", "a"), ("1.png", "c"), ("same.png", "d")]
    gallery = captions_gallery(write_lines(tmp_path, rows))
    assert sorted(gallery.texts) == ["a", "b", "c", "d"]
    belongs = {
        image_digest(gallery.images[k]): {
            text for text, yes in zip(gallery.texts, gallery.relevant[k], strict=True) if yes
        }
        for k in range(len(gallery.image_ids))
    }
    assert belongs == {
        image_digest(tiny_pairs()[0][1]): {"a", "b", "d"},
        image_digest(tiny_pairs()[1][1]): {"a", "c"},
    }
    assert gallery.notes == (
        "1 pictures have the pixels of another and are one with it",
        "1 captions have the words of another and are one with it",
    )
    # A part of a file holds the captions of its pictures alone.
    one = captions_gallery(tmp_path / "captions.jsonl", 1)
    assert one.relevant.all()
    assert len(one.image_ids) == 1


def test_missing_pictures_and_too_few_are_counted(tmp_path: Path) -> None:
    save_image(tiny_pairs()[0][1], tmp_path / "0.png")
    write_lines(tmp_path, [("0.png", "a"), ("1.png", "b"), ("2.png", "c")])
    with pytest.raises(EvaluationError, match=r"2 of 3 pictures of .* are missing"):
        captions_gallery(tmp_path)
    with pytest.raises(EvaluationError, match="names 3 pictures, not 4"):
        captions_gallery(tmp_path, 4)


def test_a_gallery_that_is_scored_in_parts_has_the_scores_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts, images = zip(*tiny_pairs(), strict=True)
    monkeypatch.setattr(retrieval, "_PAIRS_TOGETHER", 5 * len(texts))
    scorer, seen = SumScorer(), []
    same, other = score_gallery(
        Directions(scorer, scorer), images, texts, lambda *done: seen.append(done)
    )
    assert scorer.asked == [(5, 12), (5, 12), (2, 12)]
    assert seen == [(60, 144), (120, 144), (144, 144)]
    expected = [[image.mean() + len(text) for text in texts] for image in images]
    np.testing.assert_array_equal(same, expected)
    assert same is other
    pair = Directions(SumScorer(), LengthScorer())
    by_image, by_text = score_gallery(pair, images, texts)
    np.testing.assert_array_equal(by_image, expected)
    assert (by_text == by_text[:1]).all()
    # A scorer that does not look ranks all pictures alike, and finds none.
    scenes = scene_gallery(20)
    found = run_retrieval(scenes, Directions(LengthScorer(), LengthScorer())).retrieval
    assert found.text_to_image.ranks.tolist() == [20] * 20


def test_the_score_less_that_of_no_text_compares_pictures_and_keeps_the_order_of_texts() -> None:
    texts, images = zip(*tiny_pairs()[::4], strict=True)
    grid = Grid(item_id="a", images=images, texts=texts)
    (plain,) = SumScorer().score([grid])
    (relative,) = RelativeScorer(SumScorer()).score([grid])
    assert (np.diff(plain.values, axis=0) != 0).any()
    np.testing.assert_allclose(relative.values, [[len(text) for text in texts]] * 3)
    model = DiffusionScorer(tiny_diffusion(num_levels=100), num_samples=4)
    (own,), (less,) = model.score([grid]), RelativeScorer(model).score([grid])
    np.testing.assert_allclose(
        np.diff(own.values, axis=1), np.diff(less.values, axis=1), atol=1e-12
    )
    assert less.samples is not None
    np.testing.assert_allclose(less.samples.mean(-1), less.values, atol=1e-6)
    assert RelativeScorer(model).info.fingerprint != model.info.fingerprint


def test_texts_of_a_gallery_are_embedded_once_however_many_parts_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_contrastive()
    embedder, embedded = DualEncoderEmbedder(model), list[str]()

    def embed_texts(texts: Sequence[str]) -> torch.Tensor:
        embedded.extend(texts)
        return model.embed_texts(texts)

    monkeypatch.setattr(embedder, "embed_texts", embed_texts)
    scorer = ContrastiveScorer(embedder)
    texts, images = zip(*tiny_pairs(), strict=True)
    grids = [Grid(item_id=str(k), images=[images[k]], texts=texts) for k in range(2)]
    parts = [scorer.score([grid])[0].values for grid in grids]
    assert sorted(embedded) == sorted(texts)
    whole = ContrastiveScorer(DualEncoderEmbedder(model)).score(grids)
    for part, one in zip(parts, whole, strict=True):
        np.testing.assert_allclose(part, one.values, atol=1e-6)
    scorer.score([Grid(item_id="b", images=[images[0]], texts=["something else"])])
    scorer.score(grids[:1])  # no longer known: what is kept does not grow
    assert len(embedded) == 2 * len(texts) + 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("retrieval")
    save_pretrained(tiny_pretrained(), root / "genvlm", "A toy.\n")
    save_diffusion(tiny_diffusion(), tiny_diffusion_config(), root / "diffusion", "A toy.\n")
    write_tiny_captions(root / "pairs")
    return root


def test_directions_of_a_folder_follow_bayes_rule(folders: Path) -> None:
    def names(*methods: retrieval.Method, folder: str = "genvlm") -> list[str]:
        return [scorer.info.name for scorer in open_directions(folders / folder, methods)]

    assert names() == ["log p(image | text)", "log p(text | image)"]
    assert names("text_given_image") == ["log p(text | image)"] * 2
    assert names("text_given_image", "p_yes") == ["log p(text | image)", "P(yes)"]
    assert names(folder="diffusion") == ["diffusion squared error, less that of no text"] * 2
    both: Directions = open_directions(folders / "diffusion")
    assert both.image_to_text is both.text_to_image
    with pytest.raises(ConfigError, match="two directions, and 3 methods were given"):
        names("p_yes", "p_yes", "p_yes")
    with pytest.raises(ConfigError, match="cannot score by cosine"):
        names("cosine")


def test_the_command_writes_the_rank_of_every_query_and_goes_on_where_it_stopped(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "retrieval", "--model", str(folders / "genvlm"), "--out", str(tmp_path)]
    command += ["--captions", str(folders / "pairs/captions.jsonl")]
    assert main([*command, "--json"]) == 0
    shown = capsys.readouterr().out
    content = json.loads(shown)
    assert content == json.loads((tmp_path / "results.json").read_text())
    assert content["gallery"]["num_images"] == 12
    for direction, kind in (("image_to_text", ".png"), ("text_to_image", "page")):
        found = content[direction]
        ranks = [query["rank"] for query in found["queries"]]
        assert len(ranks) == 12
        assert all(query["id"].endswith(kind) for query in found["queries"])
        assert found["recall"]["5"]["value"] == pytest.approx(
            100 * np.mean([rank <= 5 for rank in ranks])
        )
        assert found["recall"]["5"]["chance"] == pytest.approx(100 * 5 / 12)
        assert found["median_rank"] == np.median(ranks)
    cached = (tmp_path / "cache.jsonl").read_bytes()
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "image to text: by log p(image | text)" in shown
    assert "chance" in shown
    assert (tmp_path / "cache.jsonl").read_bytes() == cached


def test_what_does_not_fit_is_said_before_a_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "retrieval", "--model", "nowhere", "--out", str(tmp_path / "out")]
    assert main([*command, "--num", "99999"]) == 2
    assert "ask for fewer" in capsys.readouterr().err
    assert main(command) == 2
    assert "no model folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_our_transformer_ranks_each_direction_by_its_own_likelihood(folders: Path) -> None:
    texts, images = zip(*tiny_pairs()[:3], strict=True)
    directions = open_directions(folders / "genvlm")
    grid = Grid(item_id="a", images=images, texts=texts)
    expected: list[Scorer] = list(directions)
    for matrix, scorer in zip(score_gallery(directions, images, texts), expected, strict=True):
        np.testing.assert_allclose(matrix, scorer.score([grid])[0].values, rtol=1e-6)
