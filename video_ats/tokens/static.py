"""Static patches: those that hardly differ from the one before at the same place.

After run-length tokenization (RLT; Choudhury et al., NeurIPS 2024, arXiv 2411.05222): a patch is static if the mean
absolute difference of its normalised pixels from those of the patch before is below a threshold. Of a run of static
patches only the first, which is not static, becomes a token; it stands for all of them.

Departure: there, a learned encoding of the run's length is added, which needs training. Here, ``length_encoding`` gives
the token the mean of the time embeddings over the run.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_ats.tokens.configuration import SamplerConfig
from video_ats.tokens.samplers import TokenSampler
from video_ats.tokens.scoring import at_least_float32
from video_ats.tokens.token_set import TokenSet


@torch.no_grad()
def patch_motion(clip: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """How much each patch differs from the one before it at the same place.

    Args:
        clip (float Tensor[B, 3, T, H, W]): normalised frames.
        patch: frames, rows and columns of a patch. Where it has several frames, its first one is compared with the last
            one of the patch before.

    Returns:
        Tensor[B, T', H', W'], at least float32, >= 0: mean absolute differences. Those of the first patches, which have
        none before them, are those of the next.

    Raises:
        ValueError: for a clip of fewer than two patches in time.
    """
    frames, rows, columns = patch
    count = clip.shape[2] // frames
    if count < 2:
        raise ValueError(f"clip of {clip.shape[2]} frames: motion needs two patches in time, of {frames} frames each")
    clip = at_least_float32(clip)
    now, before = clip[:, :, frames : count * frames : frames], clip[:, :, frames - 1 : (count - 1) * frames : frames]
    differences = F.avg_pool2d((now - before).abs().mean(dim=1), (rows, columns))  # (B, T' - 1, H', W')
    return torch.cat([differences[:, :1], differences], dim=1)


def reads_motion(blocks: Iterable[nn.Module], entrance: nn.Module | None) -> bool:
    """Whether the motion of the patches is needed: to keep static ones out, or as a score in one of the blocks."""
    samplers = [block.sampler for block in blocks if isinstance(block.sampler, TokenSampler)]
    return entrance is not None or any(each.config.scores == "motion" and each.reads_scores for each in samplers)


class StillPatches(nn.Module):
    """Keeps static patches out of the first block. No parameters, no buffers."""

    def __init__(self, config: SamplerConfig) -> None:
        super().__init__()
        if config.static is None:
            raise ValueError("sampler static None: must be the difference below which a patch is static")
        self.threshold, self.length_encoding = config.static, config.length_encoding

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"threshold={self.threshold}, length_encoding={self.length_encoding}"

    def forward(self, tokens: TokenSet, time: Tensor | None = None) -> TokenSet:
        """All tokens of whole clips, whose origin knows their motion, to those that are not static.

        ``time (Tensor[T, D])``: the time embeddings that the patch tokens hold.
        """
        origin, grid = tokens.origin, tokens.origin.grid
        assert origin.motion is not None
        if self.length_encoding and time is None:
            raise ValueError("sampler length_encoding true: the model has no time embedding of its own; leave it out")
        moves = (origin.motion >= self.threshold).view(grid)
        moves = moves | (torch.arange(grid.frames, device=moves.device) == 0)[:, None, None]
        keep = moves.flatten()
        frame = torch.arange(grid.frames, device=moves.device)[:, None, None].expand(grid)
        began = torch.where(moves, frame, 0).cummax(dim=1).values  # of the run that each patch is in
        into = (keep.cumsum(0) - 1)[origin.index - grid.positions * (frame - began).flatten()]
        kept = origin.absorb(origin.select(keep), into, None)
        out = tokens.select(kept)
        if not self.length_encoding or time is None:
            return out
        sums = time.new_zeros(kept.rows.shape[0], time.shape[1]).index_add(0, into, time[frame.flatten()])
        encoding = sums / kept.origin.sizes.to(time.dtype)[:, None] - time[kept.origin.frame]
        return out.with_joined(torch.cat([out.patches + encoding, out.joined[kept.rows.shape[0] :]]))
