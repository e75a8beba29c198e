"""Folders of numbered images, read as videos."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn_videos import frame_number, numbered_frames
from PIL import Image

from video_ats.video import VideoError
from video_ats.video.decoders import read_frames
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, read_videos
from video_ats.video.views import ViewPlan

RATE = Fraction(12)


def write_images(folder: Path, *, count: int = 6, first: int = 1, name: str = "img_{:05d}.png") -> Path:
    folder.mkdir(exist_ok=True)
    for number, frame in enumerate(numbered_frames(count, 48, 64), start=first):
        Image.fromarray(frame).save(folder / name.format(number))
    return folder


@pytest.mark.parametrize(
    ("first", "name"), [(1, "img_{:05d}.png"), (0, "{:06d}.bmp"), (1, "clip 1_{}.JPG"), (1, "frame{:03d}.jpeg")]
)
def test_images_in_the_order_of_their_numbers(tmp_path: Path, first: int, name: str) -> None:
    folder = write_images(tmp_path / "v", count=12, first=first, name=name)
    asked = []

    def plan(count: int, rate: Fraction) -> list[int]:
        asked.append((count, rate))
        return [11, 0, 3, 3]

    read = read_frames(folder, plan, folder_rate=RATE)
    assert asked == [(12, RATE)]
    assert (read.indices, read.num_frames, read.frame_rate, read.decoder) == ((0, 3, 11), 12, RATE, "images")
    assert [frame_number(frame) for frame in read.frames] == [0, 3, 11]
    assert read_frames(folder, lambda *_: [], folder_rate=RATE).frames.shape == (0, 48, 64, 3)


def test_pixels_are_those_of_the_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for number in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"flow_x_{number}.png")  # no frame
    np.testing.assert_array_equal(read_frames(tmp_path, lambda *_: [1], folder_rate=RATE).frames[0].numpy(), pixels)


def broken(folder: Path, how: str) -> None:
    """Break a folder of images; each way has a status and a reason."""
    image = folder / "img_00003.png"
    if how == "gap":
        image.unlink()
    elif how == "starts late":
        for number in (1, 2):
            (folder / f"img_{number:05d}.png").unlink()
    elif how == "cut":
        image.write_bytes(image.read_bytes()[:60])
    elif how == "text":
        image.write_text("no image")
    elif how == "size":
        Image.new("RGB", (32, 32)).save(image)
    elif how == "twice":
        (folder / "img_3.png").write_bytes(image.read_bytes())
    elif how == "two rows":
        (folder / "side_00001.png").write_bytes(image.read_bytes())
    else:
        for path in folder.iterdir():
            path.rename(folder / f"x{path.stem}x.png")


@pytest.mark.parametrize("wanted", [[0], []])
@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("gap", "truncated", "image number 3 is missing (1 of the 6 up to 6)"),
        ("starts late", "truncated", "image number 1 is missing (2 of the 6 up to 6)"),
        ("text", "unreadable", "image img_00003.png cannot be read: cannot identify"),
        ("size", "unreadable", "image img_00003.png is 32x32, img_00001.png is 64x48"),
        ("twice", "unreadable", "images img_00003.png and img_3.png have the same number"),
        ("two rows", "unreadable", "the folder holds several rows of images: 6 img_…, 1 side_…"),
        ("no numbers", "no_video", "the folder holds no numbered images"),
    ],
)
def test_every_broken_folder_has_a_status(
    tmp_path: Path, how: str, status: str, reason: str, wanted: list[int]
) -> None:
    folder = write_images(tmp_path / "v")
    broken(folder, how)
    with pytest.raises(VideoError) as error:
        read_frames(folder, lambda *_: wanted, folder_rate=RATE)
    assert error.value.status.value == status
    assert error.value.reason.startswith(reason)


def test_a_cut_image_is_found_where_it_is_decoded(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "v")
    broken(folder, "cut")
    for wanted in ([2], []):
        with pytest.raises(VideoError, match=r"image img_00003.png cannot be read"):
            read_frames(folder, lambda *_, w=wanted: w, folder_rate=RATE)


def test_too_short_and_without_a_rate(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "v", count=3)
    with pytest.raises(VideoError, match="has 3 frames, at least 4 are needed"):
        read_frames(folder, lambda *_: [0], folder_rate=RATE, min_frames=4)
    with pytest.raises(VideoError, match="is a directory"):
        read_frames(folder, lambda *_: [0])


def test_the_rate_and_the_listed_count(tmp_path: Path) -> None:
    """At 60 frames per second, the span of a clip in frames is twice that at 30."""
    folder = write_images(tmp_path / "v", count=60)
    plan = ViewPlan("timesformer", num_frames=2, frame_stride=8, crop_size=32)
    frames = []
    for fps in (30.0, 60.0):
        entry = VideoEntry("v", str(folder), 0, frames=60)
        (sample,) = read_videos([entry], DataConfig(fps=fps, num_workers=0), plan)
        assert (sample.status.value, sample.reason, sample.decoder) == ("ok", "", "images")
        assert sample.frames is not None
        frames.append([frame_number(frame) for frame in sample.frames])
    assert frames == [[0, 15], [0, 31]]
    for listed, status, reason in (
        (61, "truncated", "has 60 of the 61 images that the list counts"),
        (59, "ok", "has 60 images, the list counts 59"),
    ):
        entry = VideoEntry("v", str(folder), 0, frames=listed)
        (sample,) = read_videos([entry], DataConfig(fps=30.0, num_workers=0), plan)
        assert (sample.status.value, sample.reason) == (status, reason)
