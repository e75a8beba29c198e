"""On a GPU every host keeps the same tokens and gives the same logits as on a CPU. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.adapter_cases import HOSTS, inputs, logits_of
from helpers.cases import (
    ATTENTIONS,
    SCOPES,
    golden,
    golden_sizes,
    golden_state,
    random_clips,
    small_timesformer,
    small_xvit,
    wave,
)
from torch import Tensor, nn

from video_ats import SamplerConfig, create_model, insert_samplers_, trace_of
from video_ats.models.kernels import attend_within
from video_ats.models.timesformer import create_timesformer
from video_ats.models.xvit import create_xvit
from video_ats.tokens import Grid, Origin
from video_ats.tokens.configuration import Kind, Scope
from video_ats.tokens.sampling import keep_top, keep_uniform, sample_inverse, sample_reference

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
KINDS: tuple[Kind, ...] = ("ats", "topk", "random", "uniform")
OURS: dict[str, Callable[[torch.dtype], nn.Module]] = {
    **{kind: lambda dtype, kind=kind: small_timesformer(kind, dtype) for kind in ATTENTIONS},
    "xvit": small_xvit,
}


def clips_for(host: str, count: int = 3) -> Tensor:
    return random_clips(count, frames=4 if host == "xvit" else 3)


def run(model: nn.Module, clip: Tensor) -> tuple[Tensor, list[Tensor]]:
    with torch.inference_mode():
        output, trace = trace_of(model, clip)
    return logits_of(output).cpu(), [kept.cpu() for kept in trace.kept]


def assert_same_on_both(model: nn.Module, clip: Tensor, *, tolerance: float) -> None:
    expected, expected_kept = run(model, clip)
    found, kept = run(model.cuda(), clip.cuda())
    assert not expected_kept[-1].all()
    assert all(torch.equal(*pair) for pair in zip(kept, expected_kept, strict=True))
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("host", OURS)
def test_our_hosts_in_double_precision(host: str, scope: Scope, kind: Kind) -> None:
    model = insert_samplers_(OURS[host](torch.float64), SamplerConfig(kind, scope, blocks=[1, 2, 3], samples=6))
    assert_same_on_both(model, clips_for(host).double(), tolerance=1e-9)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("host", OURS)
def test_no_batch_mate_changes_a_clip(host: str, scope: Scope) -> None:
    model = insert_samplers_(OURS[host](torch.float32), SamplerConfig(scope=scope, blocks=[1, 2], samples=6)).cuda()
    clips = clips_for(host, 4).cuda()
    together, kept = run(model, clips)
    alone = [run(model, clip[None]) for clip in clips]
    torch.testing.assert_close(together.view(4, -1), torch.cat([logits for logits, _ in alone]).view(4, -1))
    for block, of_block in enumerate(kept):
        assert torch.equal(of_block, torch.cat([traced[block] for _, traced in alone]))


@pytest.mark.parametrize("host", HOSTS)
def test_adapted_hosts(host: str) -> None:
    model = insert_samplers_(HOSTS[host](), SamplerConfig(blocks=[1, 2], samples=6))
    assert_same_on_both(model.double(), inputs(host).double(), tolerance=1e-9)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scope", [None, *SCOPES])
@pytest.mark.parametrize("name", ["timesformer_mini", "xvit_mini"])
def test_half_precision_is_near_double(name: str, scope: Scope | None, precision: torch.dtype) -> None:
    model = create_model(name, num_classes=16, checkpoint=f"shipped/{name}").eval().cuda()
    clips = torch.randn(2, 3, model.num_frames, 96, 96, device="cuda")
    if scope is not None:
        insert_samplers_(model, SamplerConfig("topk", scope, blocks=[3], samples=40))
    with torch.inference_mode():
        with torch.autocast("cuda", dtype=precision):
            found = model(clips)
        expected = model.double()(clips.double())
    assert (found.double() - expected).norm() < 0.1 * expected.norm()  # near ties may keep another token


@pytest.mark.parametrize("host", OURS)
def test_gradients(host: str) -> None:
    gradients = []
    for device in ("cpu", "cuda"):
        model = insert_samplers_(OURS[host](torch.float64), SamplerConfig(blocks=[1, 2], samples=6)).to(device)
        model(clips_for(host).double().to(device)).square().sum().backward()
        gradients.append([parameter.grad.cpu() for parameter in model.parameters() if parameter.grad is not None])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-8)


def test_published_ats_on_images() -> None:
    sizes, tensors = golden("ats_vit")
    model = create_timesformer(attention="space", num_frames=1, **golden_sizes(sizes))
    model.load_state_dict(golden_state(tensors, "state."))
    insert_samplers_(model, SamplerConfig(blocks=sizes["ats_blocks"], samples=sizes["num_samples"]))
    images = torch.cat([wave(0.29 + 0.03 * image, 1, 3, 1, 64, 64) for image in range(4)])
    logits, kept = run(model.eval().cuda(), images.cuda())
    assert torch.equal(
        torch.stack([kept[block] for block in sizes["ats_blocks"]], dim=1).flatten(2), tensors["kept"].bool()
    )
    torch.testing.assert_close(logits.view_as(tensors["logits"]), tensors["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("function", [sample_reference, sample_inverse, keep_top, keep_uniform])
def test_sampling(function: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(64, 196, generator=generator) ** 4
    lengths = torch.randint(0, 197, (64,), generator=generator)
    for count in (2, 7, 64, 196):
        assert torch.equal(function(scores.cuda(), lengths.cuda(), count).cpu(), function(scores, lengths, count))


@pytest.mark.parametrize("left", [60, 196])
def test_many_short_groups(left: int) -> None:
    generator = torch.Generator().manual_seed(0)
    whole = Origin.whole(Grid(8, 8, 14, 14), torch.device("cpu"))
    index = whole.index if left == 196 else whole.index[torch.rand(len(whole.index), generator=generator) < left / 196]
    qkv = torch.randn(len(index), 3, 2, 8, generator=generator, dtype=torch.float64)
    expected = attend_within(qkv, Origin(whole.grid, index).by_position)
    found = attend_within(qkv.cuda(), Origin(whole.grid, index.cuda()).by_position).cpu()
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_a_dense_xvit_of_another_size() -> None:
    torch.manual_seed(0)
    model = create_xvit(num_frames=8, crop_size=32, embed_dim=48, depth=2, num_heads=4, num_classes=5).double().eval()
    clip = torch.randn(2, 3, 16, 48, 64, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(model.cuda()(clip.cuda()).cpu(), model.cpu()(clip), atol=1e-9, rtol=1e-9)
