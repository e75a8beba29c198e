"""Make and train a small VideoMAE and V-JEPA 2 on the mini Kinetics: video models without a class token.

Usage: python benchmarks/without_class_token.py [videomae_mini | vjepa2_mini ...]

Writes each as a model of transformers to outputs/mini, with the patch projection and the spatial blocks of
shipped/timesformer_mini, and trains it; an interrupted training goes on. The log goes to
benchmarks/results/without_class_token. `benchmarks/reducers.py` then compares what scores their tokens.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VJEPA2Config,
    VJEPA2ForVideoClassification,
)
from turns import RESULTS

from video_ats import create_model
from video_ats.atomic import write_text

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "outputs" / "mini"
FRAMES, SIDE, PATCH, TUBELET, WIDTH, DEPTH, HEADS, CLASSES = 8, 96, 8, 2, 144, 6, 3, 16
_COMMON: dict[str, Any] = {
    "patch_size": PATCH,
    "tubelet_size": TUBELET,
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "num_labels": CLASSES,
}
# As of the TimeSformer mini, whose weights these models start from.
_PIXELS = {
    "do_resize": True,
    "size": {"shortest_edge": SIDE},
    "crop_size": {"height": SIDE, "width": SIDE},
    "image_mean": [0.45] * 3,
    "image_std": [0.225] * 3,
    "frame_sampling_rate": 8,
}


def videomae_mini() -> nn.Module:
    """A VideoMAE with mean pooling and random weights."""
    config = VideoMAEConfig(image_size=SIDE, num_frames=FRAMES, intermediate_size=4 * WIDTH, **_COMMON)
    return VideoMAEForVideoClassification(config)


def vjepa2_mini() -> nn.Module:
    """A V-JEPA 2 with one layer before the query of its head, and random weights."""
    predictor = {"pred_hidden_size": 48, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 3}
    config = VJEPA2Config(
        crop_size=SIDE, frames_per_clip=FRAMES, mlp_ratio=4, num_pooler_layers=1, **predictor, **_COMMON
    )
    return VJEPA2ForVideoClassification(config)


# Model; names of a layer and its parts: query, key, value, projection, first and second layer of the MLP, norms.
_BUILDERS = {
    "videomae_mini": (
        videomae_mini,
        "videomae.encoder.layer.{}.",
        ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
        ("attention.output.dense", "intermediate.dense", "output.dense", "layernorm_before", "layernorm_after"),
        "videomae.embeddings.patch_embeddings.projection",
    ),
    "vjepa2_mini": (
        vjepa2_mini,
        "vjepa2.encoder.layer.{}.",
        ("attention.query", "attention.key", "attention.value"),
        ("attention.proj", "mlp.fc1", "mlp.fc2", "norm1", "norm2"),
        "vjepa2.encoder.embeddings.patch_embeddings.proj",
    ),
}
_RECIPE = [
    *("--train.num_workers", "1", "--device", "cpu", "--precision", "bfloat16", "--resume", "auto"),
    *("--augment.short_side", "[96, 104]", "--log_steps", "25"),
    *("--optimiser.name", "nmuon", "--optimiser.lr", "0.003", "--optimiser.momentum", "0.95"),
    *("--optimiser.warmup_epochs", "0.1", "--epochs", "2", "--batch_size", "16", "--micro_batch_size", "8"),
]
_OURS = ("attn.proj", "mlp.fc1", "mlp.fc2", "norm1", "norm2")


def make(name: str, folder: Path) -> None:
    """Write a model with the weights that it starts from: the spatial half of the shipped TimeSformer mini."""
    build, of_layer, queries_keys_values, parts, projection = _BUILDERS[name]
    torch.manual_seed(0)
    model: Any = build()
    source = create_model("timesformer_mini", num_classes=CLASSES, checkpoint="shipped/timesformer_mini").state_dict()
    state: dict[str, Tensor] = model.state_dict()
    patches = source["patch_embed.proj.weight"]
    state[f"{projection}.weight"] = (patches / TUBELET)[:, :, None].expand(-1, -1, TUBELET, -1, -1).clone()
    state[f"{projection}.bias"] = source["patch_embed.proj.bias"]
    for layer in range(DEPTH):
        theirs, ours = of_layer.format(layer), f"blocks.{layer}."
        for end in ("weight", "bias"):
            for key, third in zip(queries_keys_values, source[f"{ours}attn.qkv.{end}"].chunk(3), strict=True):
                if f"{theirs}{key}.{end}" in state:  # VideoMAE has no bias of keys, which changes no attention
                    state[f"{theirs}{key}.{end}"] = third
            for key, own in zip(parts, _OURS, strict=True):
                state[f"{theirs}{key}.{end}"] = source[f"{ours}{own}.{end}"]
    model.load_state_dict(state)
    model.save_pretrained(folder)
    write_text(folder / "preprocessor_config.json", json.dumps(_PIXELS, indent=1) + "\n")


def train(name: str) -> int:
    """Train a model that `make` wrote, and keep its log; returns the exit code."""
    data = {part: f"outputs/mini_kinetics/{split}" for part, split in (("train", "train"), ("validation", "choosing"))}
    words = [f"--{part}.{key}" for part in data for key in ("videos", "annotations", "labels")]
    values = [value for split in data.values() for value in (split, f"{split}.csv", "mini_kinetics")]
    given = [word for pair in zip(words, values, strict=True) for word in pair]
    output = Path("outputs", "mini", f"train_{name}")
    command = [sys.executable, "tools/train.py", "--model", f"outputs/mini/{name}", *given, *_RECIPE]
    code = subprocess.run([*command, "--output", str(output)], check=False, cwd=ROOT).returncode
    if not code:
        kept = RESULTS / Path(__file__).stem / name
        kept.mkdir(parents=True, exist_ok=True)
        for file in ("run.json", "metrics.jsonl"):
            shutil.copyfile(ROOT / output / file, kept / file)
    return code


def main() -> int:
    """Make and train the named models, or both."""
    for name in sys.argv[1:] or _BUILDERS:
        if name not in _BUILDERS:
            print(f"{name}: must be one of {', '.join(_BUILDERS)}", file=sys.stderr)
            return 1
        if not (MODELS / name).exists():
            make(name, MODELS / name)
        if code := train(name):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
