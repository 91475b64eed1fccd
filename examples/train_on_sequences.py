"""Train on interleaved documents of your own: `python examples/train_on_sequences.py OUT [STEPS]`.

Writes the moon's phases, clock faces and arrows as a user would write documents (PNG files and one
JSON line a document), trains on that file, and continues a sequence that training left out.
"""

import json
import sys
from pathlib import Path

from genvlm.cli.main import main as genvlm
from genvlm.data.images import save_image
from genvlm.data.sequences import CYCLES, all_sequences, draw, sample_sequences


def main(out: str, num_steps: int = 600, num_documents: int = 2000) -> Path:
    """Returns the page with the continued sequence."""
    folder = Path(out)
    names = write_pictures(folder / "data")
    lines = [
        document(f"d{i}", sequence.labels, names)
        for i, sequence in enumerate(sample_sequences(num_documents, seed=0, max_length=4))
    ]
    (folder / "data/documents.jsonl").write_text("".join(lines), encoding="utf-8")
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(path=folder / "data/documents.jsonl", num_steps=num_steps))
    check(genvlm(["train", str(config), "--out", str(folder / "run")]))
    unseen = all_sequences(2, held_out=True)[0]
    prompt = folder / "data/prompt.jsonl"
    prompt.write_text(document("unseen", unseen.labels, names), encoding="utf-8")
    command = ["generate", "--model", str(folder / "run/model"), "--document", str(prompt)]
    options = ["--num", "2", "--temperature", "0.2", "--out", str(folder / "continued")]
    check(genvlm([*command, *options]))
    return folder / "continued/index.html"


def write_pictures(folder: Path) -> dict[str, str]:
    """Every picture once; its file by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = [label for cycle in CYCLES for label in cycle.labels]
    names = {label: f"{number:02d}.png" for number, label in enumerate(labels)}
    for label, name in names.items():
        save_image(draw(label, "noto"), folder / name)
    return names


def document(name: str, labels: list[str], files: dict[str, str]) -> str:
    """A line of the file: each name with its picture behind it."""
    segments = [s for label in labels for s in ({"text": label}, {"image": files[label]})]
    return json.dumps({"id": name, "segments": segments}, ensure_ascii=False) + "\n"


def check(exit_code: int) -> None:
    """Stop where a command has told what is wrong."""
    if exit_code:
        raise SystemExit(exit_code)


CONFIG = """
kind: mixed_modal
model:
  {{hidden_size: 192, num_layers: 4, num_heads: 6, num_kv_heads: 6, head_dim: 32,
   intermediate_size: 512, context_length: 320, rotary_dims: [8, 0, 12, 12]}}
data:
  sources:
    - {{kind: documents, path: "{path}"}}
optimizer: {{kind: muon, learning_rate: 1.6e-3, warmup_steps: 50}}
num_steps: {num_steps}
global_batch_size: 8
micro_batch_size: 8
"""

if __name__ == "__main__":
    print(main(sys.argv[1], *map(int, sys.argv[2:3])))
