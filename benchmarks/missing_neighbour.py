"""What should stand for a neighbour that a sampler dropped, in XViT's mixing over frames: nothing, or the token itself?

Usage: python benchmarks/missing_neighbour.py

Runs configs/mini/missing_neighbour_xvit_mini.yaml with `missing_neighbour` zero and self, on the split that nothing is
reported on (drawn first where it is not there). Predictions go to outputs/, the comparison to
benchmarks/results/missing_neighbour/result.json. The videos are the same, so differences are paired.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from turns import RESULTS

from video_ats.cli import parse_config
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.evaluation.job import prepare, run
from video_ats.models.temporal_shift import TemporalShift
from video_ats.runs.execution import describe_environment
from video_ats.runs.metrics import paired_difference

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "mini" / "missing_neighbour_xvit_mini.yaml"
WAYS = ("zero", "self")


def main() -> int:
    """Evaluate twice, compare, write."""
    draw = [sys.executable, "tools/make_mini_kinetics.py", "--output", "outputs/mini_kinetics"]
    code = subprocess.run([*draw, "--splits", "[choosing]"], check=False, cwd=ROOT).returncode
    if code:
        return code
    right: dict[str, dict[str, list[bool]]] = {way: {} for way in WAYS}
    for way in WAYS:
        config = parse_config(EvaluateConfig, "", ["--config", str(CONFIG), "--output", f"outputs/mini/missing_{way}"])
        job = prepare(config)
        for loaded in (job.given, job.finetuned):
            assert loaded is not None
            for module in loaded.model.modules():
                if isinstance(module, TemporalShift):
                    module.missing_neighbour = way  # type: ignore[assignment]
        report, _ = run(job)
        lines = [json.loads(line) for line in (Path(config.output) / "predictions.jsonl").read_text().splitlines()]
        for line in sorted((line for line in lines if line.get("setting")), key=lambda line: line["video"]):
            right[way].setdefault(line["setting"], []).append(line["top5"][0] == line["label"])
    rows = []
    for setting, zero in right["zero"].items():
        other = right["self"][setting]
        difference = paired_difference(np.array([other]), np.array([zero]))
        percent = {way: 100 * float(np.mean(values)) for way, values in (("zero", zero), ("self", other))}
        of_dense = next(s.relative_to_dense for s in report.summary.settings if s.name == setting)
        rows.append(
            {
                "setting": setting,
                "relative_to_dense": of_dense,
                "videos": difference.videos,
                "top1_percent": percent,
                "self_minus_zero": {
                    "points": difference.points,
                    "low": difference.low,
                    "high": difference.high,
                    "differing": difference.differing,
                    "verdict": difference.verdict,
                },
            }
        )
        print(f"{setting}: {percent}; self minus zero {difference} on {difference.videos} videos")
    folder = RESULTS / Path(__file__).stem
    folder.mkdir(parents=True, exist_ok=True)
    content = {"environment": describe_environment(job.execution.device), "rows": rows}
    (folder / "result.json").write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
