"""Models of other libraries with samplers against a reference that goes token by token."""

import pytest
import torch
from helpers.adapter_cases import (
    CLASSES,
    DEPTH,
    FRAMES,
    HEADS,
    HOSTS,
    PATCH,
    PLAIN,
    SIDE,
    SIDES,
    TRANSFORMERS,
    WIDTH,
    by_clip,
    inputs,
    logits_of,
    rows,
    slow_adapter,
)
from helpers.cases import SCOPES
from helpers.slow_reference import SlowSampler, slow_timesformer
from helpers.slow_vit import SlowLayer, slow_vit

from video_ats import SamplerConfig, create_timesformer, insert_samplers_, load_checkpoint
from video_ats.models.trace import trace_of

SAMPLED, POINTS = (1, 3), 6

# An image is one frame: all scopes are the same there, which the next test asks for.
CASES = [(name, scope) for name in PLAIN for scope in SCOPES if scope == "frame" or name in TRANSFORMERS]


@pytest.mark.parametrize(("name", "scope"), CASES)
@torch.no_grad()
def test_plain_transformers(name, scope):
    model, clips = HOSTS[name](), inputs(name)
    slow = slow_adapter(name, model, clips, {block: SlowSampler(scope, per_frame=POINTS) for block in SAMPLED})
    insert_samplers_(model, SamplerConfig(scope=scope, blocks=SAMPLED, samples=POINTS))
    output, trace = trace_of(model, clips)
    for clip, expected in enumerate(slow):
        assert torch.equal(torch.stack([block[clip] for block in trace.kept]), torch.stack(expected.kept))
        torch.testing.assert_close(logits_of(output)[clip], expected.logits, rtol=0, atol=1e-4)
    assert not trace.kept[1].all()


@torch.no_grad()
def test_scopes_of_an_image_are_one():
    results = [
        insert_samplers_(HOSTS["vit"](), SamplerConfig(scope=scope, blocks=SAMPLED, samples=POINTS))(inputs("vit"))
        for scope in SCOPES
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("attention", ["divided", "joint", "space"])
@torch.no_grad()
def test_timesformer(attention, scope):
    model, clips = HOSTS[attention](), inputs(attention)
    sizes = {"num_frames": FRAMES, "crop_size": SIDE, "patch_size": PATCH, "num_classes": CLASSES}
    sizes |= {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "mlp_ratio": 40 / WIDTH}
    ours = create_timesformer(attention=attention, **sizes)
    load_checkpoint(ours, model.state_dict())
    samplers = {block: SlowSampler(scope, per_frame=POINTS) for block in SAMPLED}
    insert_samplers_(model, SamplerConfig(scope=scope, blocks=SAMPLED, samples=POINTS))
    output, trace = trace_of(model, clips)
    for clip, frames in enumerate(clips):
        slow = slow_timesformer(
            ours.state_dict(),
            frames.transpose(0, 1),
            attention=attention,
            num_heads=HEADS,
            patch_size=PATCH,
            samplers=samplers,
        )
        assert torch.equal(torch.stack([block[clip] for block in trace.kept]), torch.stack(slow.kept))
        logits = by_clip(output.logits, 2)[clip]
        if attention != "space":  # which classifies each frame there, and their mean here
            torch.testing.assert_close(logits[0], slow.logits, rtol=0, atol=1e-4)


@torch.no_grad()
def test_space_only_timesformer_classifies_each_frame_as_one_of_an_image_would():
    model, clips = HOSTS["space"](), inputs("space", 1)
    insert_samplers_(model, SamplerConfig(blocks=SAMPLED, samples=POINTS))
    logits = model(clips).logits
    layers = []
    for layer in model.timesformer.encoder.layer:
        parts = [rows(layer.attention.attention.qkv, part) for part in range(3)]
        mlp = torch.nn.Sequential(layer.intermediate, layer.output)
        norms = layer.layernorm_before, layer.layernorm_after
        layers.append(SlowLayer(norms[0], *parts, layer.attention.output, norms[1], mlp, HEADS))
    samplers = {block: SlowSampler("frame", per_frame=POINTS) for block in SAMPLED}
    for frame, tokens in enumerate(model.timesformer.embeddings(clips)):
        left = slow_vit(layers, tokens, 1, (1, SIDES, SIDES), samplers).leading
        expected = model.classifier(model.timesformer.layernorm(left[0]))
        torch.testing.assert_close(logits[frame], expected, rtol=0, atol=1e-4)
