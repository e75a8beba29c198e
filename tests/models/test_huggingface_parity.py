"""transformers' TimeSformer, an independent implementation, and ours with its weights give the same logits."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.checkpoint_files import huggingface_model

from video_ats.models.checkpoints import LoadReport, load_checkpoint
from video_ats.models.timesformer import create_timesformer

SIZES = {"crop_size": 32, "patch_size": 8, "num_classes": 10, "embed_dim": 48, "depth": 2, "num_heads": 3}


def clips(frames=4, size=32):
    return torch.randn(2, 3, frames, size, size, generator=torch.Generator().manual_seed(0))


def logits_of(theirs, clip):
    with torch.no_grad():
        return theirs(clip.transpose(1, 2)).logits  # (B, T, C, H, W)


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("attention", ["divided", "joint"])
def test_same_logits(attention, safe, tmp_path):
    theirs = huggingface_model(attention)
    if safe:
        theirs.save_pretrained(tmp_path)
    else:
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    ours = create_timesformer(num_frames=4, attention=attention, **SIZES).eval()
    report = load_checkpoint(ours, tmp_path)
    assert set(report.loaded) == set(ours.state_dict())
    assert report == LoadReport("timesformer_huggingface", report.loaded)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips()), logits_of(theirs, clips()), rtol=0, atol=1e-4)


def test_all_weights_count():
    """The parity above would not see a weight that no logit depends on."""
    theirs = huggingface_model()
    before = logits_of(theirs, clips())
    for name, parameter in theirs.named_parameters():
        saved = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(0.05 * torch.randn_like(parameter))
        assert (logits_of(theirs, clips()) - before).abs().max() > 1e-5, name
        with torch.no_grad():
            parameter.copy_(saved)


def test_sharded_folder(tmp_path):
    theirs = huggingface_model()
    theirs.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    ours = create_timesformer(num_frames=4, **SIZES).eval()
    load_checkpoint(ours, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips()), logits_of(theirs, clips()), rtol=0, atol=1e-4)

    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    shard = sorted(tmp_path.glob("model-*.safetensors"))[0]
    shard.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"shard {shard.name} is missing"):
        load_checkpoint(ours, tmp_path)
    content["weight_map"]["classifier.weight"] = "../secret.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="must be a file beside the index"):
        load_checkpoint(ours, tmp_path)
    index.write_text(json.dumps({"weight_map": ["a"]}))
    with pytest.raises(ValueError, match="must have a weight_map"):
        load_checkpoint(ours, tmp_path)
    for text, message in (("{", "is not JSON"), ("[]", "holds a list; must hold a JSON object")):
        index.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_checkpoint(ours, tmp_path)


def test_another_number_of_heads_is_seen(tmp_path):
    """Every shape fits; only the configuration tells."""
    huggingface_model().save_pretrained(tmp_path)
    ours = create_timesformer(num_frames=4, **{**SIZES, "num_heads": 6})
    with pytest.raises(ValueError, match=r"config.json says 3 attention heads, the model has 6"):
        load_checkpoint(ours, tmp_path)


def test_other_attention_is_named(tmp_path):
    huggingface_model("joint").save_pretrained(tmp_path)
    ours = create_timesformer(num_frames=4, **SIZES)
    with pytest.raises(ValueError, match="seems to be of a model with attention='joint', this one has 'divided'"):
        load_checkpoint(ours, tmp_path)
