"""The names of the decoders. Not in `decoders`, which loads them."""

from __future__ import annotations

from difflib import get_close_matches

DECODERS = ("pyav", "decord", "torchcodec", "auto")


def check_decoder(decoder: str) -> None:
    """Raise ValueError, with the known names and the nearest, unless ``decoder`` is one of DECODERS."""
    if decoder not in DECODERS:
        near = get_close_matches(decoder, DECODERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"decoder {decoder!r} is unknown, the decoders are {', '.join(DECODERS)}{hint}")
