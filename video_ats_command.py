"""The console script ``video-ats``: the table of commands, and the function that runs one.

This module is outside the package: so the list of commands appears at once.
"""

import sys
from difflib import get_close_matches
from inspect import getdoc
from pkgutil import resolve_name


class Command:
    """A row of the table.

    Args:
        summary: what the command does, in one line.
        config: class of its configuration, as ``module:name``.
        options: the keys that people use, at most ten, in a row; ``--help`` shows these, ``--help-all`` all.
        examples: command lines, without ``video-ats`` and the command, for its ``--help``.
        positional: key that takes the words of the command line that belong to no key.
    """

    def __init__(self, summary: str, config: str, options: str, *examples: str, positional: str | None = None) -> None:
        self.summary, self.config, self.examples, self.positional = summary, config, examples, positional
        self.options = tuple(options.split())


# The function of each command is in ``video_ats/commands.py``.
COMMANDS = {
    "evaluate": Command(
        "score a list of videos, dense and with ATS: accuracy versus GFLOPs",
        "video_ats.evaluation.configuration:EvaluateConfig",
        "output model checkpoint data.videos data.annotations sweep.samples target_ratio device precision batch_size",
        "--checkpoint shipped/timesformer_mini --data.videos VIDEOS --sweep.samples 32 --output out",
        "--checkpoint weights.pyth --model timesformer_base_8x32_224 --dataset kinetics400 "
        "--data.videos VIDEOS --data.annotations val.csv --sweep.samples '[32, 64]' --output out",
        "--config run.yaml --target_ratio 0.5 --device cuda --precision bfloat16 --output half",
    ),
    "calibrate": Command(
        "find the setting for a target cost, on a few videos without labels",
        "video_ats.evaluation.configuration:CalibrateConfig",
        "output model checkpoint data.videos target_ratio target_gflops target_per target_videos device precision",
        "--checkpoint shipped/timesformer_mini --data.videos VIDEOS --target_ratio 0.5 --output out",
        "--checkpoint weights.pyth --model timesformer_base_8x32_224 --data.videos VIDEOS --target_gflops 100 "
        "--device cuda --precision bfloat16 --output out",
        "--checkpoint shipped/xvit_mini --data.videos VIDEOS --target_ratio 0.35 --target_per video --output out",
        "--checkpoint shipped/timesformer_mini --data.videos VIDEOS --target_ratio 0.5 --exact true --output out",
    ),
    "train": Command(
        "fine-tune, dense or with ATS in the model, on one process or many",
        "video_ats.training.configuration:TrainConfig",
        "output model checkpoint train.videos train.annotations validation.videos sampler.samples epochs batch_size "
        "resume",
        "--train.videos VIDEOS --checkpoint shipped/timesformer_mini --num_classes 3 --output out",
        "--train.videos VIDEOS --checkpoint out/best.safetensors --sampler '{samples: 32}' --output ats",
        "--config run.yaml --output out --resume auto",
    ),
    "predict": Command(
        "say what is in videos, whole or in windows over time; no labels needed",
        "video_ats.prediction.configuration:PredictConfig",
        "videos output model checkpoint labels sampler.samples compare every embeddings device",
        "video.mp4 more/*.mp4 FOLDER list.txt --output out",
        "long.mp4 --every 2 --sampler.samples 32 --compare dense --output out",
        "FOLDER --checkpoint weights.pyth --model timesformer_base_8x32_224 --embeddings true --output out",
        positional="videos",
    ),
    "demo": Command(
        "show predictions, costs and kept patches of single videos",
        "video_ats.demo.configuration:DemoConfig",
        "videos output model checkpoint labels sweep.samples sweep.scopes windows upright device",
        "",
        "video.mp4 --checkpoint shipped/xvit_mini --sweep.samples 16 --output out",
        "one.mp4 two.mp4 --checkpoint weights.pyth --model timesformer_base_8x32_224",
        positional="videos",
    ),
    "benchmark": Command(
        "time dense and sampled models on this machine",
        "video_ats.benchmarking.configuration:BenchmarkConfig",
        "output model checkpoint data.videos sweep.samples stop.confidence batch_sizes precisions rounds device",
        "--checkpoint shipped/timesformer_mini --sweep.samples 32 --output out",
        "--model timesformer_base_8x32_224 --checkpoint random --sweep.samples '[32, 64]' --output out",
        "--checkpoint weights.pyth --model xvit_base_16x16_224 --data.videos VIDEOS --device cuda "
        "--precisions bfloat16 --batch_sizes '[1, 8]' --output out",
        "--checkpoint shipped/timesformer_mini --stop.confidence 0.99 --batch_sizes '[1, 16]' --output out",
    ),
    "export": Command(
        "write a model, dense or of exact counts, for ONNX Runtime or torch.export",
        "video_ats.exporting.configuration:ExportConfig",
        "output model checkpoint sampler.kind sampler.scope sampler.samples sampler.blocks format clips labels",
        "--checkpoint shipped/timesformer_mini --sampler dense --output dense",
        "--checkpoint shipped/timesformer_mini --sampler "
        "'{kind: similar, scope: tube, blocks: [1, 2, 3], samples: [80, 50, 30]}' --output sampled",
        "--checkpoint weights.pyth --model timesformer_base_8x32_224 --format torch --device cuda --output program",
    ),
    "check-videos": Command(
        "check which listed videos can be read, and why the others cannot",
        "video_ats.evaluation.check:CheckConfig",
        "output data.videos data.annotations data.labels data.fps data.decoder data.num_workers "
        "data.decode_timeout_seconds data.decode_memory_mb retry_lost",
        "--data.videos VIDEOS --output scan",
        "--data.videos VIDEOS --data.annotations val.csv --output scan --data.num_workers 8",
        "--data.videos VIDEOS --output scan --retry_lost true --data.decode_timeout_seconds 900",
    ),
    "index-tars": Command(
        "list the videos of tar files, local or on object storage",
        "video_ats.video.lists.tar_shards:IndexConfig",
        "videos output",
        "--videos SHARDS --output list.csv",
        "--videos s3://bucket/shards --output list.csv",
        "--videos https://host/shards --output list.csv",
    ),
    "merge-predictions": Command(
        "join the shards of an evaluation", "video_ats.evaluation.division:MergeConfig", "output", "--output out"
    ),
    "convert": Command(
        "write a checkpoint in another format, bit for bit",
        "video_ats.models.without_torch:ConvertConfig",
        "source output to checkpoint_key num_heads labels",
        "--source weights.pyth --output weights.safetensors --to video_ats",
        "--source out/best.safetensors --output folder --to timesformer_huggingface --labels kinetics400",
        "--source shipped/xvit_mini --output xvit.pth --to xvit_official",
    ),
    "count-gflops": Command(
        "count the GFLOPs of registered models, dense and with samplers",
        "video_ats.benchmarking.configuration:CountConfig",
        "output models data.videos data.annotations samples ratios sampler.scope checkpoint num_classes count_videos",
        "--output out",
        "--models 'xvit*' --data.videos VIDEOS --samples '[32, 64]' --output out",
        "--checkpoint shipped/timesformer_mini --data.videos VIDEOS --ratios 0.5 --output out",
    ),
    "make-mini-kinetics": Command(
        "draw a small data set of moving shapes; nothing is downloaded",
        "video_ats.mini_kinetics:MiniKineticsConfig",
        "output family splits clips_per_class seed processes",
        "--output mini_kinetics",
        "--output mini_kinetics --splits '[train, validation]'",
        "--output moving_fashion --family moving_fashion",
    ),
}

# Words under which people look for a command.
_OTHER_NAMES = {
    **dict.fromkeys(("merge", "join"), ("merge-predictions",)),
    **dict.fromkeys(("check", "scan"), ("check-videos",)),
    **dict.fromkeys(("gflops", "flops", "count"), ("count-gflops",)),
    **dict.fromkeys(("finetune", "fine-tune"), ("train",)),
    **dict.fromkeys(("score", "test"), ("evaluate",)),
    **dict.fromkeys(("time", "speed"), ("benchmark",)),
    "index": ("index-tars",),
}


def main() -> None:
    """Run the command of the first word. Without one, or with ``--help``, list the commands."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_usage())
        sys.exit(0)
    if name not in COMMANDS:
        near = _OTHER_NAMES.get(name.lower(), ()) or get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
        print(f"error: command {name!r}: not known; {hint}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"video-ats {name}", *arguments]  # its name in its --help
    run(name)


def run(name: str) -> None:
    """Run a command with the process's command line, and exit."""
    from video_ats import commands
    from video_ats.cli import parse_config, run_tool
    from video_ats.first_checks import check_first
    from video_ats.runs.heap import bound_kernel_cache, keep_freed_memory

    function, row = getattr(commands, name.replace("-", "_")), COMMANDS[name]

    def main() -> int | None:
        config = parse_config(
            resolve_name(row.config),
            getdoc(function) or "",
            positional=row.positional,
            examples=[f"video-ats {name} {words}".rstrip() for words in row.examples],
            options=row.options,
        )
        check_first(config)
        keep_freed_memory()
        if name == "train":
            bound_kernel_cache()
        return function(config)

    run_tool(main)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: video-ats COMMAND [--config FILE.yaml] [--key value ...]\n",
            "Adaptive Token Sampling for pretrained video transformers.\n",
            *rows,
            "\nvideo-ats COMMAND --help shows examples and the usual options, --help-all every key.",
        ]
    )
