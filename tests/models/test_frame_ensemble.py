"""An encoder of images on each frame of a clip: its heads, samplers over the frames, costs, weights, refusals."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from helpers.adapter_cases import CLASSES, DEPTH, FRAMES, HEADS, HOSTS, SIDE, SIDES, WIDTH, counted_macs, spread
from torch import Tensor, nn

from video_ats import (
    SamplerConfig,
    create_frame_ensemble,
    create_model,
    create_timesformer,
    insert_samplers_,
    load_checkpoint,
    save_checkpoint,
)
from video_ats.models.adapted import AdaptedModel, AttentiveHead

PE = {"model": "vit_pe_core_tiny_patch16_384", "num_frames": 2, "crop_size": 32}


def clips(count: int = 2) -> Tensor:
    return torch.randn(count, 3, FRAMES, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def images(clip: Tensor) -> Tensor:
    return clip.transpose(1, 2).flatten(0, 1)


def ensemble(name: str, *, attentive: bool = False) -> AdaptedModel:
    inner: Any = HOSTS[name]()
    if attentive:
        inner.reset_classifier(0)
    head = AttentiveHead(WIDTH, HEADS, CLASSES) if attentive else None
    spread(nn.ModuleList([inner, head] if head else [inner]))
    return AdaptedModel(inner, num_frames=FRAMES, crop_size=SIDE, frames_head=head).eval()


def read_by_query(head: Any, embeddings: Tensor) -> Tensor:
    """Of one clip ``(T, D)``, head by head."""
    pool, width = head.pool, WIDTH // HEADS
    query, read = pool.q(pool.latent[0, 0]), []
    keys, values = pool.kv(embeddings).chunk(2, dim=1)
    for part in (slice(at * width, (at + 1) * width) for at in range(HEADS)):
        weights = torch.stack([query[part] @ key[part] / width**0.5 for key in keys]).softmax(dim=0)
        read.append(sum(weight * value[part] for weight, value in zip(weights, values, strict=True)))
    out = pool.proj(torch.cat(read))
    return head.classifier(out + pool.mlp(pool.norm(out)))


@pytest.mark.parametrize("name", ["distilled", "siglip", "mixed"])
@torch.no_grad()
def test_heads(name: str) -> None:
    reference: Any = HOSTS[name]()
    each = reference(images(clips())).view(2, FRAMES, CLASSES)
    model = ensemble(name)
    torch.testing.assert_close(model(clips()), each.mean(dim=1), rtol=0, atol=1e-5)
    torch.testing.assert_close(model.forward_frames(clips()), each, rtol=0, atol=1e-5)
    embedded = model.forward_head(model.forward_features(clips()), pre_logits=True)
    model = ensemble(name, attentive=True)
    reference = HOSTS[name]()
    reference.reset_classifier(0)
    spread(reference)
    each = reference.forward_head(reference.forward_features(images(clips())), pre_logits=True).view(2, FRAMES, WIDTH)
    assert embedded.shape == model.forward_head(model.forward_features(clips()), pre_logits=True).shape == (2, WIDTH)
    for clip, logits, of_frames in zip(each, model(clips()), model.forward_frames(clips()), strict=True):
        torch.testing.assert_close(logits, read_by_query(model.frames_head, clip), rtol=0, atol=1e-4)
        for frame, own in zip(clip, of_frames, strict=True):
            torch.testing.assert_close(own, read_by_query(model.frames_head, frame[None]), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        SamplerConfig(scope="frame", blocks=(1, 3), samples=6),
        SamplerConfig(scope="tube", blocks=(1, 3), samples=6, dropped="merged"),
        SamplerConfig(scope="clip", blocks=(1, 3), samples=4),
        SamplerConfig("similar", "clip", (0, 2), threshold=0.0),
        SamplerConfig("tome", "tube", r=3),
        SamplerConfig(blocks=(2,), samples=6, static=1.3, scores="motion"),
    ],
)
@torch.no_grad()
def test_a_vit_is_our_space_only_timesformer(config: SamplerConfig) -> None:
    """Which goes its own way to tokens, and has the slow reference; logits, tokens and costs."""
    model = ensemble("vit")
    sizes: dict[str, Any] = {"crop_size": SIDE, "patch_size": SIDE // SIDES, "embed_dim": WIDTH, "depth": DEPTH}
    ours = create_timesformer(attention="space", num_heads=HEADS, num_frames=FRAMES, num_classes=CLASSES, **sizes)
    state = model.inner.state_dict()
    load_checkpoint(ours, {f"model.{name}": value for name, value in state.items()})
    logits, trace = insert_samplers_(model, config)(clips(), return_trace=True)
    left: list[Tensor] = []
    ours.blocks[-1].register_forward_hook(lambda _block, _given, tokens: left.append(tokens.class_tokens))  # type: ignore
    _, other = insert_samplers_(ours.eval(), config)(clips(), return_trace=True)
    wanted = ours.head(ours.norm(left[0])).mean(dim=1)  # type: ignore[operator]  # TimeSformer has the mean before that
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-4)
    assert torch.equal(torch.stack(trace.kept), torch.stack(other.kept))
    assert trace.kept[-1].shape == (2, FRAMES, SIDES, SIDES)
    assert trace.kept[-1].sum() < trace.kept[-1].numel()
    heads = (FRAMES - 1) * WIDTH * CLASSES  # one a frame
    assert torch.equal(trace.macs(), other.macs() + heads)
    assert model.dense_macs() == ours.dense_macs() + heads  # type: ignore[operator]


@pytest.mark.parametrize("name", ["siglip", "dinov3", "mixed"])
def test_each_frame_is_an_image(name: str) -> None:
    """With samplers that decide in each frame, however many tokens its neighbours keep; also the gradients."""
    config = SamplerConfig(blocks=(0, 2), samples=6)
    model, image = insert_samplers_(ensemble(name), config), insert_samplers_(HOSTS[name](), config)
    of_frames = model.forward_frames(clips())
    alone = torch.stack([image(frame[None])[0] for frame in images(clips())]).view(2, FRAMES, CLASSES)
    torch.testing.assert_close(of_frames, alone, rtol=0, atol=1e-4)
    of_frames.square().sum().backward()
    alone.square().sum().backward()
    for own, wanted in zip(model.inner.parameters(), image.parameters(), strict=True):
        assert (own.grad is None) == (wanted.grad is None)
        if own.grad is not None and wanted.grad is not None:
            torch.testing.assert_close(own.grad, wanted.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("attentive", [False, True])
@pytest.mark.parametrize("name", ["siglip", "mixed"])
def test_multiply_adds_are_those_that_torch_counts(name: str, *, attentive: bool) -> None:
    model = ensemble(name, attentive=attentive)
    for config in (None, SamplerConfig("topk", "tube", (1, 3), 6), SamplerConfig("similar", blocks=(1, 3), samples=5)):
        if config is not None:
            insert_samplers_(model, config)
        _, trace = model(clips(1), return_trace=True)
        assert int(trace.macs()) == counted_macs(lambda: model(clips(1)))
        assert int(trace.dense_macs()) == model.dense_macs()
    assert model.dense_macs(num_frames=1) < model.dense_macs()


def test_training_with_checkpointing() -> None:
    model = insert_samplers_(ensemble("mixed", attentive=True).train(), SamplerConfig(blocks=(1, 3), samples=6))
    gradients = []
    for recompute in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(recompute)
        model(clips()).square().sum().backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-4)


def test_weights_of_the_encoder_and_of_the_ensemble(tmp_path: Path) -> None:
    source: Any = timm.create_model(PE["model"], img_size=32, num_classes=7)
    torch.save(source.state_dict(), tmp_path / "image.pth")
    model = create_frame_ensemble(**PE, num_classes=5, head="attentive")
    query = model.frames_head.pool.latent.clone()  # type: ignore[union-attr]
    report = load_checkpoint(model, tmp_path / "image.pth")
    assert report.head_replaced
    assert "ignored head: classifies images" in str(report)
    assert torch.equal(model.frames_head.pool.latent, query)  # type: ignore[union-attr]
    assert torch.equal(model.inner.get_parameter("blocks.3.attn.qkv.weight"), source.blocks[3].attn.qkv.weight)

    save_checkpoint(model, tmp_path / "ensemble.safetensors")
    again = create_model(f"timm:{PE['model']}", **{**PE, "model": PE["model"]}, num_classes=5, head="attentive")
    report = load_checkpoint(again, tmp_path / "ensemble.safetensors")
    assert not report.head_replaced
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    other = create_frame_ensemble(**PE, num_classes=6, head="attentive")
    assert "checkpoint has 5 classes, the model 6" in str(load_checkpoint(other, tmp_path / "ensemble.safetensors"))
    with pytest.raises(ValueError, match=r"missing head\.weight"):
        load_checkpoint(create_frame_ensemble(**PE, num_classes=5), tmp_path / "ensemble.safetensors")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_frames": 0}, "^num_frames 0: must be at least 1$"),
        ({"head": "sum"}, "^head 'sum': must be mean or attentive$"),
        ({"model": "resnet18"}, r"^model timm:resnet18: is no ViT; supported are vit_\*, deit_\* and eva\* of timm$"),
        ({"model": "swin_tiny_patch4_window7_224", "crop_size": 224}, "^model timm:swin[^\n]* runs in windows[^\n]*$"),
    ],
)
def test_what_cannot_be_built(changes: dict[str, Any], said: str) -> None:
    sizes: dict[str, Any] = {"model": "vit_tiny_patch16_224", "num_frames": 2, "crop_size": 32, "num_classes": 3}
    with pytest.raises(ValueError, match=said):
        create_frame_ensemble(**{**sizes, **changes})


def test_a_head_that_reads_patches_needs_some_in_each_frame() -> None:
    for name in ("siglip", "dinov3"):
        model = ensemble(name)
        for config in (SamplerConfig(scope="clip"), SamplerConfig("static", static=0.1)):
            with pytest.raises(
                ValueError, match=r"^sampler (scope clip|static 0\.1): may leave a frame without patches"
            ):
                insert_samplers_(model, config)
    still = clips(1)[:, :, :1].expand(-1, -1, FRAMES, -1, -1)
    model = insert_samplers_(ensemble("mixed"), SamplerConfig("static", static=0.1))  # reads the class token, too
    logits, trace = model(still, return_trace=True)
    assert trace.kept[0].flatten(2).sum(dim=2).tolist() == [[SIDES**2, *[0] * (FRAMES - 1)]]
    assert logits.isfinite().all()


def test_clips_of_another_length_are_refused() -> None:
    model = ensemble("vit")
    with pytest.raises(ValueError, match=r"^clip \(2, 3, 3, 16, 16\): .* takes clips of 4 frames$"):
        model(clips()[:, :, :3])
    with pytest.raises(TypeError, match="frames are not classified one by one"):
        AdaptedModel(HOSTS["videomae"](), num_frames=FRAMES, crop_size=SIDE).forward_frames(clips())
