"""What the tests of all reducers share: hosts, clips, and the loops to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from helpers.cases import ATTENTIONS, random_clips, small_timesformer, small_xvit
from helpers.slow_reference import Reducer, SlowResult, SlowShift, SlowStatic, slow_timesformer, slow_xvit
from video_ats.models.host import VideoTransformer
from video_ats.models.macs import TimesformerShape
from video_ats.models.trace import Trace
from video_ats.models.xvit import XViT

HOSTS = (*ATTENTIONS, "xvit")


def model_of(host: str, dtype: torch.dtype = torch.float64) -> VideoTransformer:
    """A small model of 4 blocks; clips of 3 frames, or 4 for XViT, of 4 x 4 patches."""
    return small_xvit(dtype) if host == "xvit" else small_timesformer(host, dtype)


def clips_of(host: str, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Clips whose frames differ in contrast, so that the scopes differ; of even clips, two frames are alike.

    Not equal: which of equal scores is larger is a matter of rounding, which differs between processors.
    """
    frames = 4 if host == "xvit" else 3
    clips = random_clips(count, frames=frames).to(dtype) * torch.linspace(0.3, 2, frames, dtype=dtype)[:, None, None]
    clips[::2, :, 1] = clips[::2, :, 0] + 0.1 * clips[::2, :, 2]
    return clips


def quiet_clips(count: int, frames: int, *, side: int = 16, patch: int = 4, seed: int = 0) -> Tensor:
    """``float64 Tensor[count, 3, frames, side, side]`` in which about 60% of the patches hardly change.

    Those change by 0.02 on average, the others by about 1. The first clip is still from its second frame on.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(count, 3, side, side, generator=generator, dtype=torch.float64)

    pictures = [noise(1)]
    for frame in range(1, frames):
        moves = torch.rand(count, 1, side // patch, side // patch, generator=generator) < 0.4
        moves[0] &= frame == 1
        mask = moves.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3)
        pictures.append(torch.where(mask, noise(1), pictures[-1] + noise(0.025)))
    return torch.stack(pictures, dim=2)


def slow_of(
    model: VideoTransformer, clip: Tensor, samplers: Mapping[int, Reducer], static: SlowStatic | None = None
) -> SlowResult:
    """One clip through the loops of its host."""
    state, given = dict(model.state_dict(keep_vars=True)), dict(samplers)
    if isinstance(model, XViT):
        mixing = model.blocks[0].attn.mixing
        shift = SlowShift(mixing.segment_frames, mixing.divisor)
        return slow_xvit(state, clip, shift=shift, num_heads=3, patch_size=4, samplers=given, static=static)
    assert isinstance(model.shape, TimesformerShape)
    kind = model.shape.attention
    return slow_timesformer(state, clip, attention=kind, num_heads=3, patch_size=4, samplers=given, static=static)


def same_tokens(trace: Trace, index: int, expected: SlowResult) -> None:
    """The trace of a clip and the loops have the same tokens, which stand for the same patches, in every block."""
    assert torch.equal(trace.entered[index], expected.entered)
    for block, (kept, stands) in enumerate(zip(expected.kept, expected.stands, strict=True)):
        assert torch.equal(trace.kept[block][index], kept), f"block {block}"
        assert torch.equal(trace.tokens_of_patches(block)[index], stands), f"block {block}"


def compare(
    model: VideoTransformer,
    clips: Tensor,
    samplers: Mapping[int, Reducer],
    static: SlowStatic | None = None,
    *,
    of: Sequence[int] | None = None,
) -> Trace:
    """Logits, tokens and cost are those of the loops, of all clips or some; the cost to the integer."""
    with torch.no_grad():
        logits, trace = model(clips, return_trace=True)
        macs = trace.macs()
        for index in range(len(clips)) if of is None else of:
            with FlopCounterMode(display=False) as counter:
                expected = slow_of(model, clips[index], samplers, static)
            same_tokens(trace, index, expected)
            torch.testing.assert_close(logits[index], expected.logits, atol=1e-9, rtol=0)
            assert 2 * int(macs[index]) == counter.get_total_flops()
    return trace


def compare_alone(model: VideoTransformer, clips: Tensor) -> None:
    """What a clip gives does not depend on its batch-mates."""
    with torch.no_grad():
        together, trace = model(clips, return_trace=True)
        for index in range(len(clips)):
            alone, own = model(clips[index : index + 1], return_trace=True)
            torch.testing.assert_close(together[index : index + 1], alone, atol=1e-9, rtol=0)
            for block in range(len(trace.kept)):
                assert torch.equal(trace.kept[block][index], own.kept[block][0])
                assert torch.equal(trace.tokens_of_patches(block)[index], own.tokens_of_patches(block)[0])
            assert int(trace.macs()[index]) == int(own.macs())
