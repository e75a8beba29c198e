"""The models of benchmarks: adapters.py, large_hosts.py and without_class_token.py, at a small size."""

from pathlib import Path
from typing import Any

import adapters
import large_hosts
import pytest
import timm
import torch
import without_class_token
from helpers.adapter_cases import HOSTS, inputs

from video_ats import create_model, insert_samplers_, trace_of


@torch.no_grad()
def test_half_is_half_of_the_multiply_adds_but_for_what_merging_costs() -> None:
    model = HOSTS["vjepa2"]()
    config = large_hosts.at_half(model)
    assert (config.kind, config.scope, config.blocks) == ("similar", "tube", (1,))
    _, trace = trace_of(insert_samplers_(model, config), inputs("vjepa2", 1))
    spent = trace.macs() - trace.deciding[1]
    assert 0.4 < float(spent / trace.dense_macs()) <= large_hosts.TARGET


@pytest.mark.parametrize("name", ["videomae_mini", "vjepa2_mini"])
@torch.no_grad()
def test_a_model_starts_from_the_spatial_half_of_the_shipped_timesformer(name: str, tmp_path: Path) -> None:
    without_class_token.make(name, tmp_path)
    model: Any = create_model(str(tmp_path))
    source: Any = create_model("timesformer_mini", num_classes=16, checkpoint="shipped/timesformer_mini")
    x = torch.randn(7, 144, generator=torch.Generator().manual_seed(0))
    for block, own in zip(model.blocks, source.blocks, strict=True):
        query, key, value = own.attn.qkv(x).chunk(3, dim=1)
        parts = block.attn.qkv.parts
        torch.testing.assert_close(parts[0](x), query)
        torch.testing.assert_close(parts[2](x), value)
        # A bias of keys, which VideoMAE lacks, changes no attention.
        shift = parts[1](x) - key
        torch.testing.assert_close(shift, shift[:1].expand_as(shift), rtol=0, atol=1e-5)
        for module, its in ((block.attn.proj, own.attn.proj), (block.norm1, own.norm1), (block.norm2, own.norm2)):
            torch.testing.assert_close(module(x), its(x))
        torch.testing.assert_close(block.mlp(x), own.mlp(x))
    projection: Any = next(module for module in model.modules() if isinstance(module, torch.nn.Conv3d))
    frame = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    patches = projection(frame[:, :, None].expand(-1, -1, 2, -1, -1))[:, :, 0]
    torch.testing.assert_close(patches, source.patch_embed.proj(frame), rtol=0, atol=1e-5)


def test_rows_of_models_of_other_libraries() -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=4, num_classes=3, embed_dim=48).eval()
    case = adapters.Case("vit", model, torch.randn(2, 3, 64, 64))
    rows = adapters.measure(case, rounds=1, device=torch.device("cpu"))
    names = [row["setting"].partition(": ")[0] for row in rows]
    ats = ["ats, K = a whole frame", "ats, K = 64"]
    assert names == ["the host, dense", "our blocks, all kept", *ats, *(f"{name}, fastest blocks" for name in ats)]
    assert [row["of_dense"] for row in rows[:2]] == [1, 1]
    assert all(row["of_dense"] < 1 for row in rows[2:4])
    for row in rows:
        assert row["gflops"] == pytest.approx(row["of_dense"] * rows[0]["gflops"])
        assert row["realisation"] == pytest.approx(rows[0]["seconds"] / row["seconds"] * row["of_dense"])
