"""Continuations of a clip on disk: GIF and MP4 of each, `rollout.json`, and a page that plays."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genvlm.data.clip_files import can_write_mp4, mark_given, write_gif, write_mp4
from genvlm.data.videos import VideoFrames
from genvlm.evaluation.blocks import (
    Code,
    Figure,
    Headline,
    Prose,
    Section,
    Table,
)
from genvlm.evaluation.films import Film, Films
from genvlm.evaluation.frame_plots import (
    CEILING,
    COPY,
    MODEL,
    TRUTH,
    FrameCurve,
    FramePanel,
    frame_curves,
)
from genvlm.evaluation.report import render_report, save_report
from genvlm.nn.whole_files import write_whole
from genvlm.studies.rollout import EXPLAINED, Continuation

_UNKNOWN = 225
"""Grey of what a clip would show if it went on."""
_SCALE = 2


def write_continuation(
    found: Continuation, out: Path, *, frames_per_second: float, about: Mapping[str, Any]
) -> Path:
    """Write everything into a folder, in place of an earlier rollout; returns the page.

    MP4 is left out where PyAV is missing.

    Args:
        about: what `rollout.json` says of the model, the video and the settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    remove_clips(out)
    known: dict[str, VideoFrames] = {}
    if found.drift["truth"]:  # else they are the context alone, with which each sample begins
        known = {"truth": found.clip, "reconstruction": found.reconstruction}
    clips = {name: _known(frames, found) for name, frames in known.items()}
    clips |= {f"sample-{i}": mark_given(s, found.num_context) for i, s in enumerate(found.samples)}
    for name, frames in clips.items():
        write_gif(frames, out / f"{name}.gif", frames_per_second=frames_per_second)
        if can_write_mp4():
            write_mp4(frames, out / f"{name}.mp4", frames_per_second=frames_per_second)
    content = {"schema": 1, **about, **found.drift, "explained": EXPLAINED}
    write_whole(out / "rollout.json", json.dumps(content, indent=1) + "\n")
    page = out / "index.html"
    save_report(_page(found, clips, about), page)
    return page


def remove_clips(out: Path) -> None:
    """Remove the GIF and MP4 files of the rollout that `out` holds, and no others.

    They are known from its `rollout.json`; one of another program is passed over.
    """
    try:
        content = json.loads((out / "rollout.json").read_text("utf-8"))
    except (OSError, ValueError):
        return
    samples = content.get("samples") if isinstance(content, dict) else None
    if not isinstance(samples, list):
        return
    for name in ("truth", "reconstruction", *(f"sample-{i}" for i in range(len(samples)))):
        for suffix in ("gif", "mp4"):
            (out / f"{name}.{suffix}").unlink(missing_ok=True)


def _known(frames: VideoFrames, found: Continuation) -> VideoFrames:
    """A clip in the border of what is given, as long as the samples; grey where it ends."""
    rest = np.full((len(found.samples[0]) - len(frames), *frames.shape[1:]), _UNKNOWN, np.uint8)
    whole = np.concatenate([frames, rest])
    return mark_given(whole, len(whole))


def _page(found: Continuation, clips: Mapping[str, VideoFrames], about: Mapping[str, Any]) -> str:
    samples, truth = found.drift["samples"], found.drift["truth"]
    num_drawn = len(found.samples[0]) - found.num_context
    played = (
        "Frames in a blue-grey border were given, those in an orange one were drawn. "
        + ("The clip goes on behind the context: the model has not seen that." if truth else "")
        + ("" if truth else "Nothing is known behind the context.")
    )
    explained = "\n\n".join(f"`{name}`: {text}." for name, text in EXPLAINED.items())
    sections = [
        Section("Continuations", [_films(found, clips)], played),
        Section(
            "Drift",
            [
                Figure(_curves(found), "Over the time behind the context.", "curves of drift"),
                _table(samples, truth, num_drawn),
                Prose(explained),
            ],
        ),
        Section("How it was made", [Code(json.dumps(about, indent=1, ensure_ascii=False), "json")]),
    ]
    headlines = [
        Headline("frames given", str(found.num_context)),
        Headline("frames drawn", str(num_drawn)),
        Headline("NLL of a drawn code", f"{_mean(samples, 'nll_per_code'):.2f}", "nats"),
    ]
    if truth and truth["nll_per_code"]:
        value = float(np.mean(truth["nll_per_code"]))
        headlines.append(Headline("NLL of a true code", f"{value:.2f}", "nats"))
    if truth:
        copied = float(np.mean(truth["copy_psnr"]))
        over = "" if truth["num_frames"] == num_drawn else f" over {truth['num_frames']} frames"
        note = f"dB{over}; the last context frame repeated: {copied:.1f}"
        headlines.append(Headline("PSNR to the truth", f"{_mean(samples, 'psnr'):.1f}", note))
    return render_report("Rollout", f"of `{about['video']}`", headlines, sections)


def _films(found: Continuation, clips: Mapping[str, VideoFrames]) -> Films:
    """All clips in step, above the nats of what each of them has behind the context."""
    at, num_latents = found.rollouts[0].num_context, len(found.rollouts[0].codes)
    r = (len(found.samples[0]) - 1) // (num_latents - 1)
    spans = [(0, 0), *((1 + r * k, r * (k + 1)) for k in range(num_latents - 1))]
    truth = found.drift["truth"]
    known = {f"sample-{i}": s["nll_per_code"] for i, s in enumerate(found.drift["samples"])}
    known |= {"truth": truth["nll_per_code"]} if truth else {}

    def curve(name: str) -> list[float | None]:
        if name not in known:
            return []
        values = [None] * at + known[name]
        return [*values, *[None] * (num_latents - len(values))]

    films = [Film(frames, name, curve(name)) for name, frames in clips.items()]
    return Films(films, "Below: nats per code.", spans, "nats per code", scale=_SCALE)


def _mean(samples: Sequence[Mapping[str, Sequence[float]]], name: str) -> float:
    return float(np.mean([x for sample in samples for x in sample[name]]))


def _curves(found: Continuation) -> bytes:
    samples, truth = found.drift["samples"], found.drift["truth"]
    at, n = found.rollouts[0].num_context, found.num_context

    def of_samples(name: str) -> list[FrameCurve]:
        each = [sample[name] for sample in samples]
        faint = [FrameCurve("one", e, MODEL, faint=True) for e in each] if len(each) > 1 else []
        return [*faint, FrameCurve("drawn", np.mean(each, 0).tolist(), MODEL)]

    def of_truth(name: str) -> list[FrameCurve]:
        return [FrameCurve("truth", truth[name], TRUTH)] if truth and truth[name] else []

    panels = [
        FramePanel(
            "nats per code", [*of_samples("nll_per_code"), *of_truth("nll_per_code")], at,
            "latent frame",
        ),
        FramePanel(
            "codes: divergence from the context, nats",
            [*of_samples("js_to_context"), *of_truth("js_to_context")], at, "latent frame",
        ),
    ]  # fmt: skip
    if samples[0]["js_to_truth"]:
        title = "codes: divergence from the true latent frame, nats"
        panels.append(FramePanel(title, of_samples("js_to_truth"), at, "latent frame"))
    if truth:
        copied = FrameCurve("copy", truth["copy_psnr"], COPY)
        ceiling = FrameCurve("tokenizer", truth["reconstruction_psnr"], CEILING)
        ceilings = [ceiling] if truth["reconstruction_psnr"] else []
        curves = [*of_samples("psnr"), copied, *ceilings]
        panels.append(FramePanel("PSNR to the true frame, dB", curves, n))
    return frame_curves(panels)


def _table(
    samples: Sequence[Mapping[str, Any]], truth: Mapping[str, Any] | None, num_drawn: int
) -> Table:
    names = ("nll_per_code", "js_to_context", "js_to_truth", "psnr")

    def row(label: str, of: Mapping[str, Sequence[float]]) -> list[str]:
        values = [f"{np.mean(of[n]):.2f}" if of.get(n) else "\N{EN DASH}" for n in names]
        return [label, *values]

    rows = [row(f"sample-{i}", sample) for i, sample in enumerate(samples)]
    if truth:
        rows.append(row("truth", truth))
        rows.append(row("copy of the last context frame", {"psnr": truth["copy_psnr"]}))
        rows.append(row("truth through the tokenizer", {"psnr": truth["reconstruction_psnr"]}))
    titles = ["mean of", "nats per code", "divergence from context", "from truth", "PSNR, dB"]
    align = ["left", *["right"] * len(names)]
    caption = "Means over what was drawn."
    if truth and truth["num_frames"] < num_drawn:
        known, latents = truth["num_frames"], len(truth["nll_per_code"])
        caption = (
            f"Means over what was drawn: {num_drawn} frames in {len(samples[0]['nll_per_code'])} "
            f"latent frames. The truth ends after {known} of them (latent frames: {latents}): "
            "means of the truth, and of what is compared with it, are over these."
        )
    return Table(titles, rows, caption, align=align)  # type: ignore[arg-type]
