from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.drawn_videos import frame_number, numbered_frames, synthetic_clip, write_synthetic_dataset

from video_ats.video.decoders import read_frames
from video_ats.video.encode import write_video


def read_all(path):
    return read_frames(path, lambda count, rate: range(count)).frames.numpy()


@pytest.mark.parametrize("size", [(16, 8), (17, 9), (64, 48), (120, 161)])
def test_numbers_are_read_back(size):
    frames = numbered_frames(300, *size)
    assert frames.shape == (300, *size, 3)
    assert frames.dtype == np.uint8
    assert [frame_number(frame) for frame in frames] == list(range(300))
    assert frame_number(torch.from_numpy(frames[77])) == 77


def test_a_picture_without_a_number_is_not_taken_for_one():
    with pytest.raises(ValueError, match="carries no number"):
        frame_number(np.zeros((32, 32, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="carries no number"):
        frame_number(255 - numbered_frames(4, 32, 32)[3] // 2)


@pytest.mark.parametrize(
    ("args", "message"),
    [((70000, 64, 64), "num_frames is 70000"), ((3, 8, 64), "8x64 frames are too small")],
)
def test_numbered_frames_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        numbered_frames(*args)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "ffv1"), ("a.mkv", "libx264")])
def test_lossless_means_every_pixel(tmp_path, name, codec):
    clip = synthetic_clip(label=1, seed=3, num_frames=5, height=33, width=47)
    write_video(tmp_path / name, torch.from_numpy(clip), frame_rate=25, codec=codec, lossless=True)
    assert np.array_equal(read_all(tmp_path / name), clip)


def test_the_frame_rate_is_written(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(9, 32, 32), frame_rate=Fraction(30000, 1001))
    read = read_frames(tmp_path / "a.mp4", lambda count, rate: [])
    assert read.frame_rate == Fraction(30000, 1001)


def written(path, **options):
    write_video(path, synthetic_clip(label=2, seed=4, num_frames=12), frame_rate=30, **options)
    return path.read_bytes()


def test_encoder_options_reach_the_encoder(tmp_path):
    fine, coarse = (written(tmp_path / f"{crf}.mp4", encoder_options={"crf": crf}) for crf in ("10", "45"))
    assert len(coarse) < len(fine) / 2
    assert b"crf=45.0" in coarse


def test_encoder_options_add_to_lossless(tmp_path):
    data = written(tmp_path / "a.mkv", lossless=True, encoder_options={"preset": "ultrafast"})
    assert b"subme=0" in data  # ultrafast
    assert np.array_equal(read_all(tmp_path / "a.mkv"), synthetic_clip(label=2, seed=4, num_frames=12))


def test_muxer_options_reach_the_container(tmp_path):
    late = written(tmp_path / "late.mp4")
    early = written(tmp_path / "early.mp4", muxer_options={"movflags": "faststart"})
    assert late.index(b"mdat") < late.index(b"moov")
    assert early.index(b"moov") < early.index(b"mdat")
    assert np.array_equal(read_all(tmp_path / "late.mp4"), read_all(tmp_path / "early.mp4"))


@pytest.mark.parametrize(
    ("name", "frames", "options", "message"),
    [
        ("a.mp4", np.zeros((2, 33, 32, 3), np.uint8), {}, "33x32, yuv420p needs even sizes"),
        ("a.mp4", np.zeros((2, 32, 32), np.uint8), {}, r"expected \(T, H, W, 3\)"),
        ("a.mp4", np.zeros((0, 32, 32, 3), np.uint8), {}, "T >= 1"),
        ("a.xyz", np.zeros((2, 32, 32, 3), np.uint8), {}, "suffix '.xyz' is unknown"),
        ("no/a.mp4", np.zeros((2, 32, 32, 3), np.uint8), {}, "does not exist; make it first"),
        ("a.mp4", np.zeros((2, 32, 32, 3), np.uint8), {"codec": "nope"}, "'nope' is not in this FFmpeg"),
        ("a.avi", np.zeros((2, 32, 32, 3), np.uint8), {"codec": "mpeg4", "lossless": True}, "no lossless"),
    ],
)
def test_write_video_refuses(tmp_path, name, frames, options, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / name, frames, frame_rate=30, **options)
    assert list(tmp_path.iterdir()) == []


def test_write_video_wants_uint8(tmp_path):
    with pytest.raises(TypeError, match="float32, they must be uint8"):
        write_video(tmp_path / "a.mp4", torch.zeros(2, 32, 32, 3), frame_rate=30)


def test_a_codec_that_the_container_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="does not support"):
        write_video(tmp_path / "a.webm", numbered_frames(2, 32, 32), frame_rate=30, codec="libx264")


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(temporary, target):
        assert Path(temporary).stat().st_size > 0
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_video(tmp_path / "a.mp4", numbered_frames(2, 32, 32), frame_rate=30)
    assert list(tmp_path.iterdir()) == []


def test_the_class_is_the_motion_only():
    right, up = (synthetic_clip(label=label, seed=5, num_frames=9) for label in (0, 2))
    assert right.shape == (9, 128, 160, 3)
    assert right.dtype == np.uint8
    assert np.array_equal(right[0], up[0])
    assert not np.array_equal(right[8], up[8])
    assert np.array_equal(right, synthetic_clip(label=0, seed=5, num_frames=9))
    assert not np.array_equal(right, synthetic_clip(label=0, seed=6, num_frames=9))
    changed = (right[0] != right[8]).any(axis=-1)
    assert 0.01 < changed.mean() < 0.5  # a part of the picture moves


def test_the_square_moves_where_the_label_says():
    clip = synthetic_clip(label=0, seed=1, num_frames=3, height=48, width=64)
    moved = (clip[0] != clip[1]).any(axis=-1)
    faster = synthetic_clip(label=8, seed=1, num_frames=3, height=48, width=64)
    assert np.array_equal(faster[0], clip[0])
    assert not np.array_equal(faster[1], clip[1])
    assert moved.any(axis=1).sum() == 48 // 3  # rows touched by a horizontal motion: the square's own


def test_negative_labels_are_refused():
    with pytest.raises(ValueError, match="label is -1"):
        synthetic_clip(label=-1, seed=0)


def test_the_data_set_is_a_tree_of_readable_videos_and_keeps_what_is_there(tmp_path):
    root = write_synthetic_dataset(tmp_path / "tree", num_classes=2, videos_per_class=2)
    assert isinstance(root, Path)
    names = [str(path.relative_to(root)) for path in sorted(root.rglob("*.*"))]
    assert names == [f"class_0{c}/video_00{v}.mp4" for c in range(2) for v in range(2)]
    assert read_all(root / names[0]).shape == (48, 128, 160, 3)
    (root / names[0]).write_bytes(b"mine")
    (root / names[1]).unlink()
    write_synthetic_dataset(root, num_classes=2, videos_per_class=2)
    assert (root / names[0]).read_bytes() == b"mine"
    assert (root / names[1]).exists()
