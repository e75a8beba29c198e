"""What other code calls the tensors that we have, in tables that are read in both directions.

Our names are those of the released TimeSformer code without its ``model.`` prefix.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TIMESFORMER_PREFIX = "model."
# In the released XViT's files, and without a part in its forward pass unless it has no temporal head.
XVIT_UNUSED = "new_fc."


@dataclass(frozen=True)
class NameTable:
    """Names of tensors here and there.

    Args:
        pairs: (theirs, ours). With a dot at the end it stands for all names that begin so, else for one name; ``*`` is
            the number of a block. Of several that fit the longest counts.
    """

    pairs: tuple[tuple[str, str], ...]

    def to_ours(self, name: str) -> str:
        """Our name of theirs; one that is in no pair stays as it is."""
        return _renamed(name, self.pairs)

    def to_theirs(self, name: str) -> str:
        """Their name of ours; one that is in no pair stays as it is."""
        return _renamed(name, tuple((ours, theirs) for theirs, ours in self.pairs))


def _renamed(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for origin, target in sorted(pairs, key=lambda pair: -len(pair[0])):
        pattern = re.escape(origin).replace(r"\*", r"(?P<block>\d+)")
        is_prefix = origin.endswith(".") or not origin
        found = re.match(pattern if is_prefix else f"{pattern}$", name)
        if found:
            return target.replace("*", found.groupdict().get("block", "")) + name[found.end() :]
    return name


HUGGINGFACE = NameTable(
    (
        ("timesformer.embeddings.cls_token", "cls_token"),
        ("timesformer.embeddings.position_embeddings", "pos_embed"),
        ("timesformer.embeddings.time_embeddings", "time_embed"),
        ("timesformer.embeddings.patch_embeddings.projection.", "patch_embed.proj."),
        ("timesformer.encoder.layer.*.layernorm_before.", "blocks.*.norm1."),
        ("timesformer.encoder.layer.*.attention.attention.qkv.", "blocks.*.attn.qkv."),
        ("timesformer.encoder.layer.*.attention.output.dense.", "blocks.*.attn.proj."),
        ("timesformer.encoder.layer.*.temporal_layernorm.", "blocks.*.temporal_norm1."),
        ("timesformer.encoder.layer.*.temporal_attention.attention.qkv.", "blocks.*.temporal_attn.qkv."),
        ("timesformer.encoder.layer.*.temporal_attention.output.dense.", "blocks.*.temporal_attn.proj."),
        ("timesformer.encoder.layer.*.temporal_dense.", "blocks.*.temporal_fc."),
        ("timesformer.encoder.layer.*.layernorm_after.", "blocks.*.norm2."),
        ("timesformer.encoder.layer.*.intermediate.dense.", "blocks.*.mlp.fc1."),
        ("timesformer.encoder.layer.*.output.dense.", "blocks.*.mlp.fc2."),
        ("timesformer.layernorm.", "norm."),
        ("classifier.", "head."),
    )
)

XVIT = NameTable(
    (
        ("base_model.", ""),
        ("base_model.temp_embed", "time_embed"),
        ("consensus.cls_token", "temporal_head.cls_token"),
        ("consensus.temporal_encoder.0.", "temporal_head."),
        ("consensus.mlp_head.0.", "temporal_head.norm."),
        ("consensus.mlp_head.1.", "temporal_head.fc."),
        ("consensus.mlp_head.4.", "head."),
    )
)
