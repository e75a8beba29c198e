"""Pictures as bytes, and bytes as part of a page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from video_ats.visualize.patches import UInt8Array


def png_bytes(picture: UInt8Array) -> bytes:
    """A picture (uint8 [H, W, 3], RGB) as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def jpeg_bytes(picture: UInt8Array, *, quality: int = 85) -> bytes:
    """A picture (uint8 [H, W, 3], RGB) as a JPEG file: a tenth of the bytes for a photograph, not for drawings."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def png_data_uri(picture: UInt8Array | Path) -> str:
    """A picture (uint8 [H, W, 3], RGB), or a PNG file that is there, as the ``src`` of an ``<img>``."""
    return _data_uri(picture.read_bytes() if isinstance(picture, Path) else png_bytes(picture), "image/png")


def jpeg_data_uri(picture: UInt8Array, *, quality: int = 85) -> str:
    """A photograph (uint8 [H, W, 3], RGB) as the ``src`` of an ``<img>``."""
    return _data_uri(jpeg_bytes(picture, quality=quality), "image/jpeg")


def _data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
