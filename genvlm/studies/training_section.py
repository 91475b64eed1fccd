"""The part of a run's page that tells how its training goes: progress, curves, what went wrong.

It is made from the log alone, also while the run is writing it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genvlm.config.training import RunConfig
from genvlm.evaluation.blocks import Callout, Cell, Figure, Headline, Prose, Section, Table
from genvlm.evaluation.svg_style import BLUE, MUTED, ORANGE, TEAL
from genvlm.evaluation.training_plots import Panel, log_panels, loss_curves
from genvlm.training.run_folder import LOG_FILE, read_log
from genvlm.training.run_log import EVENTS_FILE

_MODALITIES = {"image": BLUE, "text": ORANGE, "video": TEAL}
_PERCENT = ("data_wait", "mfu")
_MOST_EVENTS = 50
_PANELS = (
    Panel("largest logit", {f"max_logit_{n}": (n, c) for n, c in _MODALITIES.items()}),
    Panel("norm of hidden states", {f"hidden_norm_{n}": (n, c) for n, c in _MODALITIES.items()}),
    Panel(
        "squared error by quarter of the levels",
        {
            f"mse_quarter_{i + 1}": (name, colour)
            for i, (name, colour) in enumerate(
                (("least noise", BLUE), ("2nd", ORANGE), ("3rd", TEAL), ("most noise", MUTED))
            )
        },
    ),
    Panel(
        "masked codes, nats each",
        {"loss_masked_image": ("picture alone", BLUE), "loss_joint_image": ("with text", ORANGE)},
    ),
    Panel(
        "masked pieces, nats each",
        {"loss_masked_text": ("text alone", BLUE), "loss_joint_text": ("with picture", ORANGE)},
    ),
    Panel("norm of the gradient", {"grad_norm": ("gradient", BLUE)}),
    Panel("norm of the parameters", {"parameter_norm": ("parameters", BLUE)}),
    Panel("tokens per second", {"tokens_per_second": ("tokens", BLUE)}),
    Panel("pairs per second", {"pairs_per_second": ("pairs", BLUE)}),
    Panel("percent of the time waiting for data", {"data_wait": ("waiting", BLUE)}),
    Panel("MFU, percent", {"mfu": ("MFU", BLUE)}),
)
# Each is the whole loss where it is the only part.
_PARTS = (
    Panel("contrastive loss, nats", {"loss_infonce": ("infonce", BLUE)}),
    Panel("caption, nats a piece", {"loss_caption": ("caption", BLUE)}),
    Panel("matching, nats", {"loss_matching": ("matching", BLUE)}),
)


def read_run_log(run: Path) -> list[dict[str, float]]:
    """Records so far; none where nothing is logged yet."""
    return read_log(run / LOG_FILE) if (run / LOG_FILE).is_file() else []


def training_section(
    config: RunConfig, run: Path, *, loss_title: str
) -> tuple[Section, list[Headline]]:
    """Of a run that has logged something; the headlines tell how far it is."""
    records = read_run_log(run)
    events: list[dict[str, Any]] = []
    if (run / EVENTS_FILE).is_file():
        events = list(read_log(run / EVENTS_FILE))
    blocks: list[Figure | Callout | Prose | Table] = [
        Prose(_progress(config, records[-1])),
        Figure(
            loss_curves(records, title=loss_title),
            "Loss over training steps.",
            "Loss curves over training steps",
        ),
    ]
    in_percent = [r | {k: 100 * r[k] for k in _PERCENT if r.get(k) is not None} for r in records]
    num_parts = sum(key.startswith("loss_") for key in records[-1])
    drawn = (*_PARTS, *_PANELS) if num_parts > 1 else _PANELS
    panels = log_panels(in_percent, drawn, marks=[event["step"] for event in events])
    if panels is not None:
        blocks.append(
            Figure(
                panels,
                "What else the log tells; dashed lines mark events."
                if events
                else "What else the log tells.",
                "Small curves of logits, norms, speed and waiting over training steps",
            )
        )
    blocks += _event_blocks(records, events)
    return Section("Training", blocks), _headlines(config, records[-1])


def _progress(config: RunConfig, last: dict[str, float]) -> str:
    done, left = int(last["step"]), config.num_steps - int(last["step"])
    if not left:
        return f"All {done:,} steps are done."
    text = f"Step {done:,} of {config.num_steps:,}"
    if (pace := last.get("step_seconds")) is None:
        return f"{text}."
    return f"{text}; at {pace:.2g} s a step the rest takes {_duration(pace * left)}."


def _headlines(config: RunConfig, last: dict[str, float]) -> list[Headline]:
    done = int(last["step"])
    if done >= config.num_steps:
        return []
    return [Headline("steps done", f"{100 * done / config.num_steps:.0f} %", f"step {done:,}")]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _event_blocks(
    records: Sequence[dict[str, float]], events: Sequence[dict[str, Any]]
) -> list[Callout | Table]:
    skipped = int(sum(record.get("skipped") or 0 for record in records))
    blocks: list[Callout | Table] = []
    if skipped:
        blocks.append(
            Callout(f"{skipped} steps were skipped: their gradient was not finite.", "bad")
        )
    if not events:
        return blocks
    shown = events[-_MOST_EVENTS:]
    rows: list[list[Cell]] = [
        [e["event"], e["step"], e["name"], _number(e["value"]), _number(e["usual"])] for e in shown
    ]
    caption = f"Events, the last {len(shown)} of {len(events)}; docs/logs.md says what they mean."
    columns = ["event", "step", "of", "value", "before"]
    return [
        *blocks,
        Table(columns, rows, caption, align=["left", "right", "left", "right", "right"]),
    ]


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
