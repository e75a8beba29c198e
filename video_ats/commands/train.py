"""Fine-tune a video transformer, dense or with token samplers in it, on one process or many (torchrun, accelerate)."""

from video_ats.cli import parse_config
from video_ats.training.job import prepare_training
from video_ats.training.loop import train
from video_ats.training.recipe import TrainConfig


def main() -> None:
    """Parse, train, say where the weights are."""
    config = parse_config(TrainConfig, __doc__ or "")
    job = prepare_training(config)
    say = print if job.accelerator.is_main_process else lambda _: None
    for note in job.notes:
        say(f"note: {note}")
    try:
        progress = train(job, say)
    except KeyboardInterrupt:
        say(f"\ninterrupted: continue with the same command and --resume auto; the state is in {config.output}")
        raise
    best = "" if progress.best_top1 is None else f"; best.safetensors: top-1 {progress.best_top1:.1f}%"
    say(f"trained: {config.output}/last.safetensors{best}")
