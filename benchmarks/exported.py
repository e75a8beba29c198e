"""Exported models: time and accuracy of ONNX Runtime, in 32 and 8 bits, of OpenVINO where it is installed, and of the
program compiled by torch, beside the model that was exported.

Usage: python benchmarks/exported.py

The shipped mini models, dense and with the exact counts that `calibrate_setting` finds for half the GFLOPs on clips of
the choosing split. Accuracy: validation clips, centre crop. Times: medians of turns in one process.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from reducers import clips_of, read_clips, shipped
from torch import Tensor
from turns import time_in_turns, write_result

from video_ats import SamplerConfig, calibrate_setting, insert_samplers_, remove_samplers_, trace_of
from video_ats.exporting.programs import export_program, to_onnx
from video_ats.runs.settings import setting_name

MODELS, TARGET, SEARCHED, BATCHES, ROUNDS = ("timesformer_mini", "xvit_mini"), 0.5, 48, (1, 8), 15
CLASSES, DATA = 16, "mini_kinetics"
Run = Callable[[Tensor], Tensor]


def session_of(path: Path, threads: int) -> Run:
    """An ONNX file as a function from clips to logits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda clips: torch.from_numpy(session.run(["logits"], {"clips": clips.numpy()})[0])


def openvino_of(path: Path, threads: int) -> Run:
    """The same file in OpenVINO, in float32."""
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    return lambda clips: torch.from_numpy(compiled([clips.numpy()])[0])


def runtimes(model: torch.nn.Module, clip: Tensor, folder: Path) -> dict[str, Run]:
    """Ways to run a model, by their names in the table."""
    whole, small = folder / "model.onnx", folder / "int8.onnx"
    program = export_program(model, clip)
    to_onnx(program).save(whole)
    quantize_dynamic(whole, small, weight_type=QuantType.QInt8)
    threads = torch.get_num_threads()
    found = {
        "this package": model,
        "torch.compile of the program": torch.compile(program.module(), fullgraph=True, dynamic=False),
        "ONNX Runtime": session_of(whole, threads),
        "ONNX Runtime, INT8": session_of(small, threads),
    }
    if find_spec("openvino") is not None:
        found["OpenVINO"] = openvino_of(whole, threads)
    return found


def accuracy(run: Run, views: Tensor, labels: Tensor) -> float:
    """Percent of clips that are right, in batches of 8."""
    predicted = torch.cat([run(part.float()).argmax(dim=1) for part in views.split(8)])
    return 100 * float((predicted == labels).double().mean())


@torch.no_grad()
def main() -> None:
    """Measure, print, write."""
    rows: list[dict[str, Any]] = []
    for name in MODELS:
        if not clips_of(DATA, "validation").exists():
            raise SystemExit(f"{clips_of(DATA, 'validation')}: is not there; video-ats make-mini-kinetics draws it")
        searched, _ = read_clips(DATA, name, CLASSES, "choosing")
        views, labels = read_clips(DATA, name, CLASSES, "validation")
        model = shipped(name, name, CLASSES)
        spread = searched[:: len(searched) // SEARCHED][:SEARCHED].float()
        found = calibrate_setting(model, spread, target_ratio=TARGET, exact=True)
        settings: tuple[SamplerConfig | None, ...] = (None, found.sampler)
        calls: dict[tuple[str, str], Run] = {}
        with tempfile.TemporaryDirectory() as folder:
            for number, sampler in enumerate(settings):
                one = remove_samplers_(shipped(name, name, CLASSES))
                if sampler is not None:
                    insert_samplers_(one, sampler)
                place = Path(folder, str(number))
                place.mkdir()
                ways = runtimes(one, views[0].float(), place)
                expected, trace = trace_of(one, views[:8].float())
                share = float(trace.macs().double().mean() / trace.dense_macs()[0])
                for runtime, run in ways.items():
                    key = setting_name(sampler), runtime
                    calls[key] = run
                    row = {"model": name, "setting": key[0], "runtime": runtime, "share": share}
                    row["difference"] = float((run(views[:8].float()) - expected).abs().max())  # of logits
                    rows.append({**row, "top1": accuracy(run, views, labels), "clips": len(labels), "ms": {}})
                    print(rows[-1], flush=True)
            for batch in BATCHES:
                clips = views[:batch].float()
                named = {" ".join(key): partial(run, clips) for key, run in calls.items()}
                seconds = time_in_turns(named, rounds=ROUNDS, device=torch.device("cpu"))
                for row in rows:
                    if row["model"] == name:
                        row["ms"][str(batch)] = 1e3 * seconds[f"{row['setting']} {row['runtime']}"]
    write_result(Path(__file__).stem, rows, torch.device("cpu"))


if __name__ == "__main__":
    main()
