"""Models of other libraries with samplers against a reference that goes token by token."""

import pytest
import torch
from helpers.adapter_cases import CLASSES, DEPTH, FRAMES, HEADS, HOSTS, PATCH, SIDE, WIDTH, by_clip, inputs, logits_of
from helpers.cases import SCOPES
from helpers.slow_reference import SlowSampler, slow_timesformer
from helpers.slow_vit import SlowLayer, slow_vit

from video_ats import SamplerConfig, create_timesformer, insert_samplers_, load_checkpoint
from video_ats.models.trace import trace_of

SAMPLED, POINTS, SIDES = (1, 3), 6, SIDE // PATCH
PLAIN = ["vit", "distilled", "registers", "vivit", "videomae"]


def rows(linear, part):
    """Query, key or value out of one linear layer."""
    weight, bias = linear.weight.chunk(3)[part], linear.bias.chunk(3)[part]
    return lambda x: x @ weight.T + bias


def slow_layer(name, layer):
    if name in ("vivit", "videomae"):
        attention = layer.attention
        if name == "vivit":
            parts, out, mlp = (attention.q_proj, attention.k_proj, attention.v_proj), attention.o_proj, layer.mlp
        else:
            inner = attention.attention
            parts, out = (inner.query, inner.key, inner.value), attention.output.dense
            mlp = torch.nn.Sequential(layer.intermediate, layer.output.dense)
        return SlowLayer(layer.layernorm_before, *parts, out, layer.layernorm_after, mlp, HEADS)
    parts = [rows(layer.attn.qkv, part) for part in range(3)]
    out, mlp = torch.nn.Sequential(layer.attn.proj, layer.ls1), torch.nn.Sequential(layer.mlp, layer.ls2)
    return SlowLayer(layer.norm1, *parts, out, layer.norm2, mlp, HEADS)


def parts_of(name, model, clips):
    """Embedded tokens by the host's own code, its layers, leading tokens and grid."""
    if name == "vivit":
        return model.vivit.embeddings(clips), model.vivit.layers, 1, (FRAMES // 2, SIDES, SIDES)
    if name == "videomae":
        embedded = model.videomae.embeddings(clips, None)
        return embedded, model.videomae.encoder.layer, 0, (FRAMES // 2, SIDES, SIDES)
    embedded = model.norm_pre(model._pos_embed(model.patch_embed(clips)))
    return embedded, model.blocks, model.num_prefix_tokens, (1, SIDES, SIDES)


def slow_head(name, model, tokens):
    if name == "vivit":
        return model.classifier(model.vivit.layernorm(tokens)[0])
    if name == "videomae":
        return model.classifier(model.fc_norm(tokens.mean(dim=0)))
    normed = model.norm(tokens)
    heads = [model.head(normed[0])]
    if name == "distilled":
        heads.append(model.head_dist(normed[1]))
    return torch.stack(heads).mean(dim=0)


# An image is one frame: all scopes are the same there, which the next test asks for.
CASES = [(name, scope) for name in PLAIN for scope in SCOPES if scope == "frame" or name in ("vivit", "videomae")]


@pytest.mark.parametrize(("name", "scope"), CASES)
@torch.no_grad()
def test_plain_transformers(name, scope):
    model, clips = HOSTS[name](), inputs(name)
    embedded, layers, leading, grid = parts_of(name, model, clips)
    samplers = {block: SlowSampler(scope, per_frame=POINTS) for block in SAMPLED}
    slow = [
        slow_vit([slow_layer(name, layer) for layer in layers], tokens, leading, grid, samplers) for tokens in embedded
    ]
    insert_samplers_(model, SamplerConfig(scope=scope, blocks=SAMPLED, samples=POINTS))
    output, trace = trace_of(model, clips)
    for clip, (tokens, kept) in enumerate(slow):
        assert torch.equal(torch.stack([block[clip] for block in trace.kept]), torch.stack(kept))
        torch.testing.assert_close(logits_of(output)[clip], slow_head(name, model, tokens), rtol=0, atol=1e-4)
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
        left, _ = slow_vit(layers, tokens, 1, (1, SIDES, SIDES), samplers)
        expected = model.classifier(model.timesformer.layernorm(left[0]))
        torch.testing.assert_close(logits[frame], expected, rtol=0, atol=1e-4)
