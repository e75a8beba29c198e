"""File name endings: which files count as videos, and which as frames of one."""

from __future__ import annotations

import re

#: Endings, lower case, that count as a video when a folder is searched: those of FFmpeg's containers and raw streams.
VIDEO_EXTENSIONS = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp"),
    *(".mts", ".m2ts", ".ogv", ".vob", ".gif", ".asf", ".3g2", ".f4v", ".qt", ".mpe", ".m1v", ".m2v", ".mp4v"),
    *(".divx", ".rm", ".rmvb", ".mxf", ".dv", ".nut", ".ivf", ".y4m", ".mjpg", ".mjpeg", ".amv", ".wtv"),
    *(".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".m4s", ".trp", ".tp", ".m2p", ".mpv", ".xvid"),
)
#: The same of images, where each is a video of one frame.
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp")

_FRAME = re.compile(r"(?P<prefix>.*?)(?P<number>[0-9]+)\.(?:jpe?g|png|bmp)", re.IGNORECASE | re.DOTALL)


def is_video_name(name: str, *, images: bool = False) -> bool:
    """Whether a file name has the ending of a video, or with ``images`` of one, and is not hidden (``._x.mp4``)."""
    return name.lower().endswith(VIDEO_EXTENSIONS + IMAGE_EXTENSIONS * images) and not name.startswith(".")


def frame_name(name: str) -> tuple[str, int] | None:
    """What stands before the number of an image (``img_`` of ``img_00001.jpg``), and the number; None: no such name."""
    match = None if name.startswith(".") else _FRAME.fullmatch(name)
    return (match["prefix"], int(match["number"])) if match else None
