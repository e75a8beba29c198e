"""timm's image encoders with samplers: the published method on images, costs of DeiT-S, protected tokens, refusals."""

import copy

import pytest
import timm
import torch
from helpers.adapter_cases import counted_macs, everything, inputs, timm_model
from helpers.cases import golden, golden_state, wave
from timm.layers import SwiGLU
from timm.models.vision_transformer import ResPostBlock
from torch import nn

from video_ats import SamplerConfig, insert_samplers_, remove_samplers_
from video_ats.models.macs import dense_passes
from video_ats.models.trace import trace_of


@torch.no_grad()
def test_published_ats_on_images_through_timm():
    """Logits and kept sets of the released image code, from its own weights."""
    sizes, tensors = golden("ats_vit")
    names = ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "num_classes")
    model = timm.create_model("vit_tiny_patch16_224", **{name: sizes[name] for name in names}).eval()
    model.load_state_dict(golden_state(tensors, "state."))
    blocks = sizes["ats_blocks"]
    insert_samplers_(model, SamplerConfig(blocks=blocks, samples=sizes["num_samples"]))
    images = torch.cat([wave(0.29 + 0.03 * image, 1, 3, 64, 64) for image in range(4)])
    logits, trace = trace_of(model, images)
    kept = torch.stack([trace.kept[block].flatten(1) for block in blocks], dim=1)
    assert torch.equal(kept, tensors["kept"].bool())
    torch.testing.assert_close(logits, tensors["logits"], rtol=0, atol=1e-4)


def test_deit_small_costs_what_was_published():
    """4.6 GFLOPs, in closed form and by torch's counter; no weights are needed for that."""
    with torch.device("meta"):
        model = timm.create_model("deit_small_patch16_224").eval()
        image = torch.empty(1, 3, 224, 224)
        macs = counted_macs(lambda: model(image))
    assert macs / 1e9 == pytest.approx(4.6, abs=0.05)
    small = timm.create_model("deit_small_patch16_224", depth=2).eval()
    image = torch.zeros(1, 3, 224, 224)
    _, trace = trace_of(small, image)
    whole = torch.ones_like(trace.kept[0])
    blocks = trace.shape.macs(dense_passes(whole, 2)) - trace.shape.macs(dense_passes(whole, 1))
    assert int(trace.macs()) == counted_macs(lambda: small(image)) == int(trace.dense_macs())
    assert int(trace.macs() + 10 * blocks) == macs


@pytest.mark.parametrize(
    ("name", "leading"), [("deit_tiny_distilled_patch16_224", 2), ("vit_small_patch14_reg4_dinov2", 5)]
)
@torch.no_grad()
def test_leading_tokens_stay_and_are_read(name, leading):
    model = insert_samplers_(timm_model(name), SamplerConfig(kind="topk", blocks=range(4), samples=1))
    seen = []
    model.blocks[3].register_forward_hook(lambda module, given, output: seen.append(given[0]))
    model(inputs("vit"))
    assert not seen[0][:, :leading].isnan().any()
    assert (~seen[0][:, leading:, 0].isnan()).sum(dim=1).tolist() == [1, 1]
    for token in range(leading):
        before = model.blocks[3](seen[0])[:, 0]
        changed = seen[0].clone()
        changed[:, token] *= -1  # a constant would vanish in the norm
        assert (model.blocks[3](changed)[:, 0] - before).abs().max() > 1e-3


@torch.no_grad()
def test_features_hold_nan_where_a_token_was_dropped_and_zero_at_the_end():
    model, images = timm_model("vit_tiny_patch16_224"), inputs("vit")
    insert_samplers_(model, SamplerConfig(kind="topk", blocks=(1,), samples=6))
    _, trace = trace_of(model, images)
    last, between = model.forward_intermediates(images, indices=[0, 1, 3], output_fmt="NLC")
    assert between[0].isfinite().all()
    assert torch.equal(~between[1].isnan().any(dim=2), trace.kept[1].flatten(1))
    assert torch.equal(between[2].any(dim=2), trace.kept[3].flatten(1))
    assert last.isfinite().all()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("vit_tiny_patch16_224", {"global_pool": "max", "reg_tokens": 2, "fc_norm": False, "scale_attn_norm": True}),
        ("vit_tiny_patch16_224", {"global_pool": "avgmax", "class_token": False, "mlp_layer": SwiGLU}),
        ("vit_tiny_patch16_224", {"global_pool": "map", "pool_include_prefix": True}),
        ("eva_giant_patch14_224", {"init_values": 0.1}),  # biases beside a single layer, nothing turns
        ("vit_medium_patch16_rope_reg1_gap_256", {"use_fc_norm": False, "rope_type": "mrope", "global_pool": "max"}),
    ],
)
@torch.no_grad()
def test_the_head_reads_what_is_left(name, changes):
    """As the host's own head would, if it were given these tokens alone."""
    model, images = timm_model(name, **changes), inputs("vit", 8)
    dense = model(images)
    torch.testing.assert_close(insert_samplers_(model, everything())(images), dense, rtol=0, atol=1e-4)
    insert_samplers_(model, SamplerConfig(blocks=(1, 3), samples=6))
    seen = []
    model.blocks[3].register_forward_hook(lambda module, given, output: seen.append(output))
    logits, trace = trace_of(model, images)
    assert (logits - dense).abs().max() > 1e-3
    remove_samplers_(model)
    assert model.attn_pool is None or len({int(kept.sum()) for kept in trace.kept[3]}) > 1  # in a table with gaps
    for image, kept, own in zip(seen[0], trace.kept[3].flatten(1), logits, strict=True):
        leading, patches = image.split([model.num_prefix_tokens, len(kept)])
        left = model.norm(torch.cat([leading, patches[kept]])[None])
        torch.testing.assert_close(model.forward_head(left)[0], own, rtol=0, atol=1e-5)


@torch.no_grad()
def test_attention_pooling_that_is_not_fused_reads_the_same():
    for config in (SamplerConfig(blocks=(1, 3), samples=6), SamplerConfig("similar", blocks=(1,), threshold=0.2)):
        model = insert_samplers_(timm_model("vit_tiny_patch16_224", global_pool="map"), config)
        logits = model(inputs("vit", 8))
        model.attn_pool.fused_attn = False
        torch.testing.assert_close(model(inputs("vit", 8)), logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_an_encoder_without_pooling_has_zeros_where_tokens_are_gone():
    model = insert_samplers_(
        timm_model("vit_small_patch16_dinov3", num_classes=0, global_pool=""), SamplerConfig(blocks=(1, 3), samples=6)
    )
    tokens, trace = trace_of(model, inputs("vit"))
    assert torch.equal(tokens[:, 5:].any(dim=2), trace.kept[3].flatten(1))


def test_a_model_with_learned_angles_is_copied_after_a_pass_of_training():
    model = insert_samplers_(timm_model("vit_small_patch16_rope_mixed_224").train(), SamplerConfig(blocks=(1,)))
    loss = model(inputs("vit")).sum()
    copy.deepcopy(model)(inputs("vit"))
    loss.backward()
    assert model.rope.freqs.grad.any()


def test_stochastic_depth_and_dropout_run_in_training_only():
    model, images = timm_model("vit_tiny_patch16_224", drop_path_rate=0.5, proj_drop_rate=0.3), inputs("vit", 8)
    insert_samplers_(model, SamplerConfig(blocks=(1, 3), samples=6))
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))
    assert model.eval().blocks[1].forward.graft.host.blocks[1].drop_path.training is False


def test_attention_dropout_is_refused_in_training_only():
    model = insert_samplers_(timm_model("vit_tiny_patch16_224", attn_drop_rate=0.1), SamplerConfig(blocks=(1,)))
    model(inputs("vit"))
    with pytest.raises(ValueError, match=r"^Block: attention dropout 0.1 in training: with samplers must be 0$"):
        model.train()(inputs("vit"))


def test_masks_and_tokens_dropped_elsewhere_are_refused():
    model = insert_samplers_(timm_model("vit_tiny_patch16_224"), SamplerConfig(blocks=(1,)))
    with pytest.raises(ValueError, match=r"^Block: with samplers takes no mask.*attn_mask.*remove_samplers_ first$"):
        model(inputs("vit"), attn_mask=torch.ones(17, 17, dtype=torch.bool))
    model = insert_samplers_(timm_model("vit_tiny_patch16_224", patch_drop_rate=0.5), SamplerConfig(blocks=(1,)))
    with pytest.raises(
        ValueError,
        match=r"^hidden states \(2, 9, 24\): .* 1 \+ 16 tokens in 1 sequences per clip.*nothing else drop tokens",
    ):
        model.train()(inputs("vit"))


def test_modules_that_are_exchanged_afterwards_are_seen():
    model = insert_samplers_(timm_model("vit_tiny_patch16_224"), SamplerConfig(blocks=(1,)))
    model.blocks[2].mlp.fc1 = nn.Linear(24, 96)
    with pytest.raises(RuntimeError, match=r"^Block: its modules were exchanged after samplers were inserted"):
        model(inputs("vit"))
    insert_samplers_(model, SamplerConfig(blocks=(1,)))(inputs("vit"))
    remove_samplers_(model)


class OtherLinear(nn.Linear):
    """As quantisation and LoRA put it there."""


def exchanged(**parts):
    model = timm_model("vit_tiny_patch16_224")
    for name, module in parts.items():
        setattr(model.blocks[1].attn, name, module)
    return model


def unweighted(name):
    with torch.device("meta"):
        return timm.create_model(name)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: timm_model("vit_tiny_patch16_224", global_pool="prr"), "its head is AttentionPoolPrr"),
        (lambda: timm_model("vit_tiny_patch16_224", global_pool=""), "its head classifies every token"),
        (lambda: timm_model("vit_tiny_patch16_224", block_fn=ResPostBlock), "its blocks are ResPostBlock"),
        (lambda: timm_model("vit_tiny_patch16_224", attn_layer="diff"), "its attention is DiffAttention"),
        (lambda: exchanged(gate=nn.Linear(24, 24)), "its attention has a gate"),
        (lambda: timm_model("eva02_tiny_patch14_224", use_post_norm=True), "its blocks are EvaBlockPostNorm"),
        (
            lambda: timm_model("vit_small_patch16_rope_224", qkv_fused=False, num_kv_heads=1),
            r"its heads share keys and values \(grouped-query attention\)",
        ),
        (lambda: exchanged(qkv=OtherLinear(24, 72)), "qkv is OtherLinear, not nn.Linear; merge"),
        (lambda: unweighted("swin_tiny_patch4_window7_224"), "runs in windows"),
        (lambda: unweighted("mvitv2_tiny"), "pools keys and values"),
        (lambda: unweighted("resnet18"), "it has no attention"),
    ],
)
def test_models_that_do_not_fit_are_refused_in_one_line(build, reason):
    model = build()
    before = {name: dict(module.__dict__) for name, module in model.named_modules()}
    with pytest.raises(TypeError, match=f"{reason}.*supported are .*timm's VisionTransformer") as error:
        insert_samplers_(model, SamplerConfig())
    assert "\n" not in str(error.value)
    assert {name: module.__dict__ for name, module in model.named_modules()} == before
