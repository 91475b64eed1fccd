"""Curation: each rule drops what it should, in order; bytes depend on neither workers nor kills."""

import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from genvlm.config.curation import CurationConfig
from genvlm.config.data import WebDatasetSource
from genvlm.config.schema import parse_config
from genvlm.data.curation import store
from genvlm.data.curation.curate import Curated, Models, curate
from genvlm.data.curation.given import Captioner, PairScorer
from genvlm.data.images import decode_image, load_image
from genvlm.data.layouts.open import open_source
from genvlm.data.raw import Media
from genvlm.errors import ConfigError, DataError, StorageError
from genvlm.testing.files import write_files, write_json_lines
from genvlm.testing.noisy_captions import GOOD, all_rules, write_noisy_captions


def no_models() -> Models:
    def refuse(_: object) -> Any:
        raise AssertionError("no model is named")

    return Models(scorer=refuse, captioner=refuse)


def config_of(folder: Path, *rules: dict[str, Any], **others: Any) -> CurationConfig:
    content = {
        "kind": "curation",
        "sources": [{"kind": "captions", "path": str(folder)}],
        "rules": list(rules or all_rules(folder)),
        "max_unreadable": 0.5,
        "pairs_per_shard": 3,
        **others,
    }
    return parse_config(CurationConfig, content, "test")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str | None]]:
    folder = tmp_path_factory.mktemp("noisy")
    return folder, write_noisy_captions(folder)


@pytest.fixture(scope="module")
def curated(noisy: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("curated")
    curate(config_of(noisy[0]), out, no_models())
    return out


def verdicts(out: Path) -> dict[str, str | None]:
    lines = (out / "ledger.jsonl").read_text("utf-8").splitlines()
    return {row["id"]: row.get("rule") for row in map(json.loads, lines)}


def files_of(out: Path) -> dict[str, bytes]:
    names = ["ledger.json", "ledger.jsonl", "config.yaml", "shards"]
    paths = [p for name in names for p in [out / name, *(out / name).glob("*")] if p.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def test_each_document_is_dropped_by_the_rule_that_it_fails(
    noisy: tuple[Path, dict[str, str | None]], curated: Path
) -> None:
    assert verdicts(curated) == noisy[1]


def test_the_ledger_adds_up_and_shows_examples(curated: Path) -> None:
    ledger = json.loads((curated / "ledger.json").read_text("utf-8"))
    alive = ledger["in"]
    for rule in ledger["rules"]:
        assert rule["in"] == alive
        assert len(rule["examples"]) == min(rule["dropped"], 12) > 0
        alive -= rule["dropped"]
    assert alive == ledger["kept"] == sum(s["pairs"] for s in ledger["shards"]) == len(GOOD)
    by_name = {rule["name"]: rule for rule in ledger["rules"]}
    assert by_name["near_duplicates"]["examples"][0]["like"] == "dog face"
    assert by_name["evaluation_pictures"]["examples"][0]["like"].endswith("evaluation/pear.png")


def test_what_is_written_is_read_again_as_webdataset(
    noisy: tuple[Path, Any], curated: Path
) -> None:
    paths = tuple(str(path) for path in sorted((curated / "shards").glob("*.tar")))
    assert len(paths) == 3
    documents = list(open_source(WebDatasetSource(paths=paths)))
    assert [document.extra["id"] for document in documents] == list(GOOD)
    for label, document in zip(GOOD, documents, strict=True):
        text, media = document.segments
        assert text == f"a {label}"
        assert isinstance(media, Media)
        assert media.read() == (noisy[0] / f"{label}.png").read_bytes()
        assert document.extra["measures"]["width"] == 64


def test_the_first_rule_of_the_list_counts(noisy: tuple[Path, Any], tmp_path: Path) -> None:
    size, script = {"kind": "size", "min_side": 70}, {"kind": "script"}
    for first, second in ((size, script), (script, size)):
        out = tmp_path / str(first["kind"])
        curate(config_of(noisy[0], first, second), out, no_models())
        assert verdicts(out)["foreign"] == first["kind"]


def test_two_processes_write_the_same_bytes_as_one(
    noisy: tuple[Path, Any], curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHUNK", 4)
    curate(config_of(noisy[0]), tmp_path, no_models(), num_workers=2)
    assert len(list((tmp_path / "measures").glob("*.jsonl"))) == 6
    assert files_of(tmp_path) == files_of(curated)


class Killed(BaseException):
    """Ends a curation at once, as a signal would."""


@pytest.mark.parametrize(("stage", "calls"), [("measuring", 2), ("writing", 2), ("writing", 5)])
def test_a_killed_curation_goes_on_to_the_same_bytes(
    stage: str, calls: int, noisy: tuple[Path, Any], curated: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(store, "CHUNK", 4)
    measured: list[str] = []
    measure = store.measure

    def counting(batch: Any) -> Any:
        measured.extend(document for document, *_ in batch)
        return measure(batch)

    monkeypatch.setattr(store, "measure", counting)

    def dying(name: str) -> Callable[[int, int | None], None]:
        told = iter(range(calls))

        def tell(done: int, total: int | None) -> None:
            if name == stage and next(told, None) is None:
                raise Killed

        return tell

    with pytest.raises(Killed):
        curate(config_of(noisy[0]), tmp_path, no_models(), progress=dying)
    assert not (tmp_path / "ledger.json").exists()
    curate(config_of(noisy[0]), tmp_path, no_models(), resume=True)
    assert files_of(tmp_path) == files_of(curated)
    assert len(measured) - len(set(measured)) <= 2 * 4, "more than the chunks in the making"


def test_processes_end_with_a_killed_parent_and_the_run_goes_on(
    noisy: tuple[Path, Any], curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHUNK", 4)
    config = config_of(noisy[0])

    def stall(stage: str) -> Callable[[int, int | None], None]:
        return lambda done, total: time.sleep(3600)

    def work() -> None:
        curate(config, tmp_path, no_models(), num_workers=2, progress=stall)

    # A fork of this process, which has imported everything, writes one chunk and then hangs.
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("measures/*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.join()
    assert len(children) >= 2, "no processes were measuring"
    assert psutil.wait_procs(children, timeout=60)[1] == []
    curate(config, tmp_path, no_models(), resume=True)
    assert files_of(tmp_path) == files_of(curated)


def test_rules_may_change_without_measuring_again(
    noisy: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curate(config_of(noisy[0]), tmp_path, no_models())
    monkeypatch.delattr(store, "measure")
    curate(
        config_of(noisy[0], {"kind": "size", "min_side": 70}), tmp_path, no_models(), resume=True
    )
    assert [key for key, rule in verdicts(tmp_path).items() if rule is None] == [
        "rescaled", "leaked",
    ]  # fmt: skip
    assert len(list((tmp_path / "shards").glob("*.tar"))) == 1


def test_a_folder_in_use_and_other_sources_are_refused(
    noisy: tuple[Path, Any], tmp_path: Path
) -> None:
    config = config_of(noisy[0], {"kind": "size"})
    curate(config, tmp_path, no_models())
    with pytest.raises(ConfigError, match="is not empty"):
        curate(config, tmp_path, no_models())
    other = replace(config, sources=(replace(config.sources[0], path="elsewhere"),))
    with pytest.raises(ConfigError, match="not made of the sources"):
        curate(other, tmp_path, no_models(), resume=True)


def test_a_second_curation_into_a_folder_is_refused_while_the_first_one_works(
    noisy: tuple[Path, Any], curated: Path, tmp_path: Path
) -> None:
    config, met = config_of(noisy[0]), []

    def meddle(stage: str) -> Callable[[int, int | None], None]:
        with pytest.raises(StorageError, match="another process is writing into"):
            curate(config, tmp_path, no_models(), resume=True)
        met.append(stage)
        return lambda done, total: None

    curate(config, tmp_path, no_models(), progress=meddle)
    assert met == ["measuring", "writing"]
    assert files_of(tmp_path) == files_of(curated)


def test_a_picture_that_changed_since_it_was_measured_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_noisy_captions(folder)
    curate(config_of(folder), tmp_path / "out", no_models())
    (folder / "cow.png").write_bytes((folder / "rescaled.png").read_bytes())
    rules = ({"kind": "size", "min_side": 64},)
    with pytest.raises(DataError, match=r"cow\.png has changed since it was measured"):
        curate(config_of(folder, *rules), tmp_path / "out", no_models(), resume=True)


def test_documents_that_are_gone_since_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_noisy_captions(folder)
    curate(config_of(folder), tmp_path / "out", no_models())
    lines = (folder / "captions.jsonl").read_text("utf-8").splitlines()
    write_files(folder, {"captions.jsonl": "\n".join(lines[1:])})
    with pytest.raises(DataError, match="holds measures of other documents"):
        curate(config_of(folder), tmp_path / "out", no_models(), resume=True)


def test_too_many_unreadable_pictures_stop_the_run(noisy: tuple[Path, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 of the first 23 samples are damaged"):
        curate(config_of(noisy[0], max_unreadable=0.05), tmp_path, no_models())


def test_rules_that_drop_everything_are_named(noisy: tuple[Path, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"drop all 23 documents, 21 of them by size"):
        curate(config_of(noisy[0], {"kind": "size", "min_side": 99}), tmp_path, no_models())


def test_the_same_picture_may_come_with_another_caption(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_noisy_captions(folder)
    rows = [
        {"id": str(n), "image": "cow.png", "text": text}
        for n, text in enumerate(["a cow", "one cow", "A cow."])
    ]
    write_json_lines(folder / "captions.jsonl", rows)
    for kind in ("exact_duplicates", "near_duplicates"):
        out = tmp_path / kind
        curate(config_of(folder, {"kind": kind, "same": "picture_and_caption"}), out, no_models())
        assert verdicts(out) == {"0": None, "1": None, "2": kind}


def test_ids_of_several_sources_are_kept_apart(noisy: tuple[Path, Any], tmp_path: Path) -> None:
    source = {"kind": "captions", "path": str(noisy[0])}
    rules = ({"kind": "exact_duplicates"},)
    curate(config_of(noisy[0], *rules, sources=[source, source]), tmp_path, no_models())
    found = verdicts(tmp_path)
    assert found["0/cow"] is None
    assert found["1/cow"] == "exact_duplicates"


def test_documents_that_are_no_pairs_are_refused(tmp_path: Path) -> None:
    path = write_json_lines(
        tmp_path / "d.jsonl", [{"id": "1", "segments": [{"text": "a"}, {"text": "b"}]}]
    )
    sources = [{"kind": "documents", "path": str(path)}]
    with pytest.raises(DataError, match="is no pair of a picture and a caption"):
        curate(config_of(tmp_path, sources=sources), tmp_path / "out", no_models())


def file_of(path: Path, key: str, values: dict[str, Any]) -> str:
    return str(write_json_lines(path, [{"id": i, key: v} for i, v in values.items()]))


def test_the_best_share_of_a_score_is_kept(noisy: tuple[Path, Any], tmp_path: Path) -> None:
    scores = {label: place % 3 for place, label in enumerate(GOOD)}
    file = file_of(tmp_path / "scores.jsonl", "score", scores)
    out = tmp_path / "out"
    curate(
        config_of(noisy[0], *all_rules(noisy[0]), {"kind": "score", "file": file, "keep": 0.6}),
        out,
        no_models(),
    )
    kept = [key for key, rule in verdicts(out).items() if rule is None]
    assert kept == ["cow", "red heart", "umbrella", "rocket"]  # of equal scores the earlier one
    file = file_of(tmp_path / "few.jsonl", "score", {"cow": 1.0})
    few = {"kind": "score", "file": file, "min_score": 0}
    config = config_of(noisy[0], *all_rules(noisy[0]), few)
    with pytest.raises(DataError, match=r"says nothing of 6 of 7 documents, such as 'dog face'"):
        curate(config, tmp_path / "two", no_models())


def test_a_model_scores_only_what_came_so_far_and_its_scores_are_kept(
    noisy: tuple[Path, Any], tmp_path: Path
) -> None:
    asked: list[str] = []

    def score(images: Any, captions: Any) -> list[float]:
        asked.extend(captions)
        return [float(image.mean()) for image in images]

    weights = "before"
    models = replace(no_models(), scorer=lambda rule: PairScorer(fingerprint=weights, score=score))
    config = config_of(
        noisy[0], *all_rules(noisy[0]), {"kind": "score", "model": "clip", "keep": 0.5}
    )
    curate(config, tmp_path, models)
    assert asked == [f"a {label}" for label in GOOD]
    light = {label: load_image(noisy[0] / f"{label}.png").mean() for label in GOOD}
    expected = sorted(light, key=lambda label: -light[label])[:4]
    kept = [key for key, rule in verdicts(tmp_path).items() if rule is None]
    assert set(kept) == set(expected)
    looser = (*config.rules[:-1], replace(config.rules[-1], keep=0.9))
    curate(replace(config, rules=looser), tmp_path, models, resume=True)
    assert len(asked) == len(GOOD)
    weights = "after more training"
    curate(config, tmp_path, models, resume=True)
    assert len(asked) == 2 * len(GOOD)


def test_synthetic_captions_stand_beside_the_originals(
    noisy: tuple[Path, Any], tmp_path: Path
) -> None:
    texts = {label: f"A drawing that shows a {label}" for label in GOOD if label != "cow"}
    file = file_of(tmp_path / "texts.jsonl", "text", texts)
    out = tmp_path / "out"
    result = curate(config_of(noisy[0], captions={"file": file, "share": 1.0}), out, no_models())
    assert result.ledger["captions"] == {"synthetic": 6, "wanted_but_missing": 1}
    rows = read_back(out)
    assert rows["rocket"] == (texts["rocket"], "a rocket", "synthetic")
    assert rows["cow"] == ("a cow", "a cow", "source")


def test_a_share_of_the_pictures_takes_a_captioner_s_text(
    noisy: tuple[Path, Any], tmp_path: Path
) -> None:
    def caption(images: Any) -> list[str]:
        return [f"mean {image.mean():.2f}" for image in images]

    captioner = Captioner(fingerprint="a", caption=caption)
    models = replace(no_models(), captioner=lambda config: captioner)
    out = tmp_path / "out"
    curate(config_of(noisy[0], captions={"model": "m", "share": 0.5, "seed": 1}), out, models)
    rows = read_back(out)
    drawn = [label for label, row in rows.items() if row[2] == "synthetic"]
    assert 0 < len(drawn) < len(GOOD)
    for label in drawn:
        assert rows[label][0] == f"mean {load_image(noisy[0] / f'{label}.png').mean():.2f}"


def read_back(out: Path) -> dict[str, tuple[str, str, str]]:
    paths = tuple(str(path) for path in sorted((out / "shards").glob("*.tar")))
    return {
        d.extra["id"]: (str(d.segments[0]), d.extra["original_text"], d.extra["caption_from"])
        for d in open_source(WebDatasetSource(paths=paths))
    }


def test_thumbnails_are_of_the_right_pictures(noisy: tuple[Path, Any], tmp_path: Path) -> None:
    result: Curated = curate(config_of(noisy[0]), tmp_path, no_models())
    for number, small in result.thumbnails.items():
        content = (noisy[0] / f"{result.decisions.measured[number].id}.png").read_bytes()
        picture = decode_image(content, "")
        side = max(*picture.shape[:2], small.shape[0])
        white = 255 - (255.0 - picture).sum() / (3 * side**2)  # around it all is white
        assert small.shape[0] == small.shape[1]
        assert abs(float(np.mean(small)) - white) < 3
