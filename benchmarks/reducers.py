"""Compare ways to reduce tokens at equal GFLOPs; the tables of docs/reducers.md are made from the results.

Usage: python benchmarks/reducers.py [--time] [PAIR ...]

A pair is a model and data: see `PAIRS`. Each method has six trials for each budget, a share of the dense GFLOPs, but
for the one that is calibrated without labels: see reducer_trials.py. The best one on the choosing split is run on the
validation split, and so is a random choice of as many tokens in every block and group. One view of each clip. Results
go to benchmarks/results/reducers/PAIR.json after each step, and what is there is not measured again. ``--time`` times
the chosen settings of one budget instead, and writes time_PAIR.json; run it on an idle machine.
"""

import copy
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from reducer_trials import METHODS, OF_THE_QUERY, WITHOUT_CLASS, Bench, Method, Output, Search, Trial
from torch import Tensor, nn
from turns import RESULTS, time_in_turns

from video_ats import SamplerConfig, create_model, insert_samplers_, remove_samplers_
from video_ats.atomic import write_text
from video_ats.models.registry import get_variant
from video_ats.runs.execution import describe_environment
from video_ats.runs.heap import keep_freed_memory
from video_ats.runs.options import ViewsConfig, plan_views
from video_ats.runs.settings import setting_name
from video_ats.video import VideoStatus
from video_ats.video.source import DataConfig, open_videos, read_videos

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = (0.5, 0.75, 0.35)
TIMED_BUDGET, ROUNDS = 0.5, 7
CHOOSING, CHOOSING_IMAGES, REPORTED_IMAGES = 200, 1_000, 4_000

Labelled = tuple[Tensor, Tensor]  # views float16 [N, ...], labels int64 [N]


@dataclass(frozen=True)
class Pair:
    """A model and data.

    ``parts``: names of the lists on which accuracy is reported; one that is not there is left out, and said.
    ``read``: the views of ``choosing`` or of a part, and ``has``: whether they are there.
    ``budgets``, ``methods``: what is compared.
    """

    name: str
    model: str
    data: str
    parts: tuple[str, ...]
    load: Callable[[], nn.Module]
    read: Callable[[str], Labelled]
    has: Callable[[str], bool]
    batch: int = 8
    budgets: tuple[float, ...] = BUDGETS
    methods: tuple[Method, ...] = METHODS


def clips_of(folder: str, part: str) -> Path:
    """Where the drawn clips of a part are; it may end in a generator seed: ``validation_seed1``."""
    split, _, seed = part.partition("_")
    return ROOT / "outputs" / (f"{folder}_{seed}" if seed else folder) / split


def read_clips(folder: str, model: str, num_classes: int, part: str) -> Labelled:
    """One view of each drawn clip: the centre crop."""
    videos = clips_of(folder, part)
    data = DataConfig(videos=str(videos), annotations=f"{videos}.csv", labels=folder, num_workers=0)
    plan = plan_views(get_variant(model), ViewsConfig(clips=1, crops=1))
    entries = open_videos(data, num_classes=num_classes).entries
    # Lists are in the order of the classes; every n-th clip of one is of all classes.
    if part == "choosing":
        entries = entries[:: max(len(entries) // CHOOSING, 1)][:CHOOSING]
    order = torch.randperm(len(entries), generator=torch.Generator().manual_seed(0)).tolist()
    views, found = list[Tensor](), list[int]()
    for sample in read_videos([entries[place] for place in order], data, plan):
        if sample.status is not VideoStatus.OK:
            raise ValueError(f"{sample.entry.key}: {sample.reason}; draw the clips again")
        views.append(sample.views(plan).half())
        found.append(sample.entry.known_label)
    return torch.cat(views), torch.tensor(found)


def shipped(model: str, weights: str, num_classes: int) -> nn.Module:
    """A mini model with weights of the package."""
    return create_model(model, num_classes=num_classes, checkpoint=f"shipped/{weights}").eval()


def load_vit() -> nn.Module:
    """The small ViT of photographs.py."""
    from photographs import load_vit

    return load_vit().eval()


def read_photographs(part: str) -> Labelled:
    """Photographs of garments: the first ones that were not trained on, or of the official test split."""
    from photographs import photographs

    views, labels = photographs(part)
    most = CHOOSING_IMAGES if part == "choosing" else REPORTED_IMAGES
    return views[:most].half(), labels[:most]


def _of_clips(model: str, weights: str, folder: str, classes: int, parts: tuple[str, ...]) -> Pair:
    name = f"{model}_{folder.rpartition('_')[2]}"
    read = partial(read_clips, folder, model, classes)
    load = partial(shipped, model, weights, classes)
    return Pair(name, model, folder.replace("_", " "), parts, load, read, lambda part: clips_of(folder, part).exists())


def _trained(name: str, methods: tuple[Method, ...]) -> Pair:
    """A model without class token that without_class_token.py makes and trains; of the plain scores, ``received``."""
    folder = ROOT / "outputs" / "mini"
    weights = folder / f"train_{name}" / "last.safetensors"

    def has(part: str) -> bool:
        return weights.exists() and clips_of("mini_kinetics", part).exists()

    return Pair(
        f"{name}_kinetics",
        name,
        "mini kinetics",
        ("validation",),
        lambda: create_model(str(folder / name), checkpoint=weights).eval(),
        partial(read_clips, "mini_kinetics", "timesformer_mini", 16),
        has,
        budgets=(0.5,),
        methods=methods,
    )


_SEEDS = ("validation", "validation_seed1", "validation_seed2")
PAIRS = {
    pair.name: pair
    for pair in (
        _of_clips("timesformer_mini", "timesformer_mini", "mini_kinetics", 16, _SEEDS),
        _of_clips("xvit_mini", "xvit_mini", "mini_kinetics", 16, _SEEDS),
        _of_clips("timesformer_mini", "timesformer_fashion", "moving_fashion", 10, ("validation",)),
        Pair(
            "vit_photographs",
            "timm ViT",
            "photographs",
            ("validation",),
            load_vit,
            read_photographs,
            lambda part: True,
            50,
        ),
        _trained("videomae_mini", WITHOUT_CLASS),
        _trained("vjepa2_mini", (*WITHOUT_CLASS, OF_THE_QUERY)),
    )
}


def measure(pair: Pair, path: Path) -> dict[str, Any]:
    """Choose all settings, then run the chosen ones on each part; what ``path`` has is kept."""
    model = pair.load()
    result = json.loads(path.read_text()) if path.exists() else _new(pair)

    names = [method.name for method in pair.methods]

    def keep() -> None:
        result["rows"].sort(key=lambda row: (-row["budget"], names.index(row["method"])))
        write_text(path, json.dumps(result, indent=1) + "\n")

    benches: dict[str, Bench] = {}
    for budget in pair.budgets:
        chosen = [row["method"] for row in result["rows"] if row["budget"] == budget]
        todo = [method for method in pair.methods if method.name not in chosen]
        if todo and "choosing" not in benches:
            benches["choosing"] = _bench(pair, model, "choosing")
            search = Search(benches["choosing"])
            result["choosing"] = len(search.bench.labels)
        for method in todo:
            if method.needs_frames and search.frames == 1:
                continue
            trials = [_told(trial) for trial in search.best(method, budget)]
            result["rows"].append({"method": method.name, "budget": budget, "trials": trials, "parts": {}})
            keep()
            best = "{setting} {share:.3f}".format(**trials[0]) if trials else "not reached"
            print(f"{pair.name} {budget} {method.name}: {best}", flush=True)
        _report(pair, model, result, pair.parts[0], benches, keep)
    for part in pair.parts[1:]:
        if pair.has(part):
            benches.clear()
            _report(pair, model, result, part, benches, keep)
    return result


def _report(
    pair: Pair,
    model: nn.Module,
    result: dict[str, Any],
    part: str,
    benches: dict[str, Bench],
    keep: Callable[[], None],
) -> None:
    """Run the chosen settings on a part, as far as that was not done."""
    left = [row for row in result["rows"] if row["trials"] and part not in row["parts"]]
    if not left:
        return
    bench = benches[part] = benches.get(part) or _bench(pair, model, part)
    if part not in result["dense"]:
        result["dense"][part] = _counted(bench.run(None))
    known: dict[SamplerConfig, dict[str, Any]] = {}  # methods may have chosen the same
    for row in left:
        sampler = sampler_of(row["trials"][0]["sampler"])
        if sampler not in known:
            output = bench.run(sampler)
            known[sampler] = _counted(output)
            if sampler.kind != "random":
                known[sampler]["random"] = _counted(bench.run(sampler, as_random=output))
        row["parts"][part] = known[sampler]
        keep()
        print(f"{pair.name} {part} {row['budget']} {row['method']}: {row['parts'][part]['top1']:.2f}", flush=True)


def _bench(pair: Pair, model: nn.Module, part: str) -> Bench:
    if not pair.has(part):
        raise ValueError(f"{pair.name}: the {part} split is not there; draw it first")
    return Bench(model, *pair.read(part), pair.batch)


def sampler_of(told: dict[str, Any]) -> SamplerConfig:
    """The sampler that `_told` wrote."""
    return SamplerConfig(**{key: tuple(value) if isinstance(value, list) else value for key, value in told.items()})


def packed(right: npt.NDArray[np.bool_]) -> str:
    """Which clips are right, as hexadecimal digits."""
    return np.packbits(right).tobytes().hex()


def _new(pair: Pair) -> dict[str, Any]:
    told = {"name": pair.name, "model": pair.model, "data": pair.data}
    return {"environment": describe_environment(torch.device("cpu")), "pair": told, "dense": {}, "rows": []}


def _counted(output: Output) -> dict[str, Any]:
    clips = len(output.right)
    told = {"clips": clips, "top1": 100 * float(output.right.mean()), "loss": float(output.losses.mean())}
    return {**told, "gflops": float(output.macs.mean()) / 1e9, "right": packed(output.right)}


def _told(trial: Trial) -> dict[str, Any]:
    given = {field.name: getattr(trial.sampler, field.name) for field in fields(SamplerConfig)}
    differs = {field.name for field in fields(SamplerConfig) if given[field.name] != field.default}
    sampler = {name: value for name, value in given.items() if name in differs | {"kind"}}
    told = {"setting": setting_name(trial.sampler), "sampler": sampler, "share": trial.share}
    return {**told, "clips": trial.clips, "right": trial.right, "loss": trial.loss}


@torch.inference_mode()
def time_pair(pair: Pair, path: Path, *, budget: float = TIMED_BUDGET, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Seconds of a batch of 1 and of 8 clips with each chosen setting of one budget, in turns, and of dense."""
    rows = json.loads(path.read_text())["rows"]
    chosen = {row["method"]: row["trials"][0] for row in rows if row["budget"] == budget and row["trials"]}
    model = pair.load()
    views = _bench(pair, model, pair.parts[0]).views[:8].float()
    models = {"dense": model}
    for name, trial in chosen.items():
        models[name] = insert_samplers_(remove_samplers_(copy.deepcopy(model)), sampler_of(trial["sampler"]))
    timed = []
    for size in (1, 8):
        calls = {name: partial(one, views[:size]) for name, one in models.items()}
        seconds = time_in_turns(calls, rounds=rounds, device=torch.device("cpu"))
        for name, value in seconds.items():
            setting = chosen[name]["setting"] if name in chosen else "dense"
            row = {"method": name, "budget": budget, "setting": setting, "batch": size}
            timed.append({**row, "seconds": value, "of_dense": value / seconds["dense"]})
    return timed


def main() -> int:
    """Measure or time the pairs that are named, or all whose data or results are there."""
    options = [word for word in sys.argv[1:] if word.startswith("--")]
    folder = RESULTS / "reducers"
    there = [name for name, pair in PAIRS.items() if (folder / f"{name}.json").exists() or pair.has("choosing")]
    names = [word for word in sys.argv[1:] if not word.startswith("--")] or there
    unknown = [name for name in names if name not in PAIRS] + [one for one in options if one != "--time"]
    if unknown:
        print(f"{unknown[0]}: must be --time or one of {', '.join(PAIRS)}", file=sys.stderr)
        return 1
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / f"{name}.json"
        if options:
            timed = {"environment": describe_environment(torch.device("cpu")), "rows": time_pair(PAIRS[name], path)}
            write_text(folder / f"time_{name}.json", json.dumps(timed, indent=1) + "\n")
        else:
            measure(PAIRS[name], path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
