"""Inputs of other sizes than the configuration's, where the host itself takes them; hooks that do not run."""

import warnings
from typing import Any

import pytest
import timm
import torch
from helpers.adapter_cases import (
    CLASSES,
    DEPTH,
    FRAMES,
    HOSTS,
    everything,
    inputs,
    spread,
    timesformer,
    timm_model,
    videoprism,
    vivit,
)

from video_ats import SamplerConfig, insert_samplers_, remove_samplers_, trace_of

SOME = SamplerConfig(kind="topk", blocks=(1, 3), samples=5)


def dynamic() -> Any:
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": DEPTH, "num_heads": 3, "num_classes": CLASSES}
    return spread(timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, **sizes))


@pytest.mark.parametrize(
    ("build", "shape", "named", "grid"),
    [
        (lambda: timesformer("divided_space_time"), (2, 6, 3, 16, 16), {}, (6, 4, 4)),
        (lambda: timesformer("joint_space_time"), (2, 4, 3, 24, 24), {}, (4, 6, 6)),
        # transformers resizes ViViT's positions for one step of tubelets only, and only to another shape
        (lambda: vivit(num_frames=2), (2, 2, 3, 24, 16), {"interpolate_pos_encoding": True}, (1, 6, 4)),
        # resizes its positions in space and time
        (videoprism, (2, 6, 3, 24, 24), {"interpolate_pos_encoding": True}, (6, 6, 6)),
        (dynamic, (2, 3, 24, 16), {}, (1, 6, 4)),
        (HOSTS["dinov3"], (2, 3, 24, 16), {}, (1, 6, 4)),
        (
            lambda: timm_model("vit_pe_core_tiny_patch16_384", rope_type="mixed", dynamic_img_size=True),
            (2, 3, 16, 24),
            {},
            (1, 4, 6),
        ),
    ],
)
@torch.no_grad()
def test_other_sizes(build: Any, shape: tuple[int, ...], named: dict[str, Any], grid: tuple[int, int, int]) -> None:
    model, pixels = build(), torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def logits() -> torch.Tensor:
        output = model(pixels, **named)
        return output if isinstance(output, torch.Tensor) else output.logits

    if len(shape) == 5:  # layers of transformers' divided TimeSformer group tokens by this number, whatever the input
        model.config.num_frames = shape[1]
    dense = logits()
    insert_samplers_(model, everything())
    torch.testing.assert_close(logits(), dense, rtol=0, atol=1e-4)
    if len(shape) == 5 and not named:
        model.config.num_frames = FRAMES  # as it was made
    insert_samplers_(model, SOME)
    if len(shape) == 5:
        torch.testing.assert_close(trace_of(insert_samplers_(model, everything()), pixels, **named)[0].logits, dense)
        insert_samplers_(model, SOME)
    _, trace = trace_of(model, pixels, **named)
    assert trace.kept[0].shape == (2, *grid)
    assert trace.kept[-1].sum() < trace.kept[0].sum()
    remove_samplers_(model)
    if len(shape) == 5:
        model.config.num_frames = shape[1]
    assert torch.equal(logits(), dense)


@pytest.mark.parametrize(
    ("name", "bypassed", "run"),
    [
        ("divided", "timesformer.encoder.layer.1.attention.attention", "timesformer.encoder.layer.1.output"),
        ("videomae", "videomae.encoder.layer.1.attention", "videomae.encoder.layer.1"),
        ("vit", "blocks.1.attn", "blocks.1.mlp"),
    ],
)
@torch.no_grad()
def test_a_hook_that_does_not_run_is_announced_once(name: str, bypassed: str, run: str) -> None:
    model, pixels = insert_samplers_(HOSTS[name](), SOME), inputs(name)
    ran: list[int] = []
    model.get_submodule(run).register_forward_hook(lambda *_: ran.append(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(pixels)
    assert ran
    model.get_submodule(bypassed).register_forward_hook(lambda *_: ran.append(2))
    with pytest.warns(UserWarning, match=r"does not run with samplers.*trace_of"):
        model(pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(pixels)
    assert 2 not in ran


@pytest.mark.parametrize(
    ("name", "within", "runs_itself"),
    [
        ("videomae", "videomae.encoder.layer.0.attention", True),
        ("vit", "blocks.0.attn", True),
        # Its layer computes the class token once a frame, and would cost more than is counted.
        ("divided", "timesformer.encoder.layer.0.attention.attention", False),
    ],
)
@torch.no_grad()
def test_layers_before_the_first_sampler_run_themselves(name: str, within: str, runs_itself: bool) -> None:
    model, pixels, ran = HOSTS[name](), inputs(name), list[int]()
    model.get_submodule(within).register_forward_hook(lambda *_: ran.append(1))
    insert_samplers_(model, SOME)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if runs_itself else "ignore")
        model(pixels)
    assert bool(ran) == runs_itself
    ran.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace_of(model, pixels)  # which watches the blocks
    assert not ran


def test_a_mask_is_not_taken_for_fewer_frames() -> None:
    base = insert_samplers_(HOSTS["videomae"]().base_model, SOME)  # type: ignore[arg-type]
    masked = (torch.arange(32) % 2 == 0).expand(2, -1)
    with pytest.raises(ValueError, match="does nothing else drop tokens"):
        base(inputs("videomae"), bool_masked_pos=masked)
