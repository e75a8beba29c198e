"""The moving fashion: one garment moves by itself, and neither one frame nor motion alone tells which kind it is."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.tools_in_process import run_tool_file

from video_ats.mini_kinetics import FAMILIES, fashion, photographs
from video_ats.mini_kinetics.drawing import FRAME_RATES, Clip
from video_ats.mini_kinetics.fashion import (
    IN_VIEW,
    Layout,
    draw_dark_scene,
    draw_fashion,
    draw_layout,
    tinted,
)
from video_ats.mini_kinetics.photographs import FOLDER, GARMENTS, Photographs, read_part, read_photographs
from video_ats.video.lists.label_names import is_mirror_safe, load_label_names

HEIGHT, WIDTH = 128, 150
CLASSES = FAMILIES["moving_fashion"].classes
installed = pytest.mark.skipif(not Path(FOLDER).exists(), reason="Debian's package dataset-fashion-mnist is missing")


@pytest.fixture(scope="module")
def made() -> Photographs:
    """Stand-ins: three photographs of each kind, boxes whose height is the kind's."""
    images = np.zeros((30, 28, 28), dtype=np.uint8)
    for number in range(30):
        images[number, 4 : 8 + 2 * (number % 10), 4:24] = 100 + 5 * number
    return Photographs(images, np.arange(30, dtype=np.uint8) % 10)


@pytest.fixture(scope="module")
def layouts(made: Photographs) -> list[Layout]:
    """Of all classes in turn."""
    return [
        draw_layout(GARMENTS[seed % 10], np.random.default_rng((seed, 7)), made, HEIGHT, WIDTH) for seed in range(800)
    ]


def clip_of(made: Photographs, seed: int, *, still: bool = False) -> Clip:
    return draw_fashion(GARMENTS[seed % 10], np.random.default_rng(seed), photographs=made, still=still)


# --- clips


def test_the_classes_are_the_label_list_and_the_kinds_of_photographs() -> None:
    assert load_label_names("moving_fashion") == CLASSES == tuple(sorted(GARMENTS))
    assert is_mirror_safe(CLASSES)


def test_clips_have_the_form_of_the_mini_kinetics(made: Photographs) -> None:
    clips = [clip_of(made, seed) for seed in range(3)]
    for frames, rate in clips:
        count, height, width, _ = frames.shape
        assert frames.dtype == np.uint8
        assert rate in FRAME_RATES
        assert 2 <= round(count / rate, 1) <= 4
        assert height % 2 == width % 2 == 0
        assert 126 <= min(height, width) <= 178
        assert not np.array_equal(frames[0], frames[-1])
    assert len({frames.shape for frames, _ in clips}) == 3
    assert np.array_equal(clips[0].frames, clip_of(made, 0).frames)


def test_garments_are_brighter_than_the_ground(made: Photographs) -> None:
    scene = draw_dark_scene(np.random.default_rng(0), HEIGHT, WIDTH)
    layout = draw_layout("bag", np.random.default_rng(0), made, HEIGHT, WIDTH)
    assert scene.ground.max() < 0.4 * max(garment.sprite.colours.max() for garment in layout.garments)
    assert scene.ground.std() > 2


@pytest.mark.parametrize("seconds", [0.0, 1.7])
def test_garments_lie_where_the_rail_says(made: Photographs, seconds: float) -> None:
    """Beside a slow loop over pixels: the last garment of the order is seen."""
    layout = draw_layout("coat", np.random.default_rng(5), made, HEIGHT, WIDTH)
    frame, slow = np.zeros((2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    layout.paint(frame, seconds)
    for index, garment in enumerate(layout.garments):
        y, x = layout.position(index, seconds)
        for row, column, colour in zip(*garment.sprite, strict=True):
            slow[(round(y) + row) % HEIGHT, (round(x) + column) % WIDTH] = colour
    assert np.array_equal(frame, slow)
    assert frame.any()


def test_garments_have_their_size(made: Photographs) -> None:
    squares = Photographs(np.full((10, 28, 28), 255, dtype=np.uint8), np.arange(10, dtype=np.uint8))
    drawn = [draw_layout("bag", np.random.default_rng(seed), squares, 200, 240) for seed in range(20)]
    sides = [np.ptp(garment.sprite.rows) + 1 for layout in drawn for garment in layout.garments]
    assert 51 <= min(sides) < 54
    assert 66 < max(sides) <= 69


def test_still_repeats_one_frame_of_the_clip(made: Photographs) -> None:
    still, moving = clip_of(made, 3, still=True), clip_of(made, 3)
    assert still.frames.shape == moving.frames.shape
    assert (still.frames == still.frames[0]).all()
    apart = [np.abs(frame.astype(int) - still.frames[0]).mean() for frame in moving.frames]
    assert min(apart) < 5 < max(apart)  # the noise alone


def test_a_tinted_photograph_has_its_outline_and_shades() -> None:
    image = np.zeros((28, 28), dtype=np.uint8)
    image[7:21, :14], image[7:21, 14:] = 255, 100
    sprite = tinted(image, 56, np.array([200.0, 100.0, 0.0]))
    assert (sprite.rows.min(), sprite.rows.max()) == (-15, 14)  # a pixel of its soft edge on either side
    assert (sprite.columns.min(), sprite.columns.max()) == (-28, 27)
    left, right = (sprite.colours[sprite.columns == column].max(axis=0).tolist() for column in (-20, 20))
    assert left == [200, 100, 0]
    assert right == [int(200 * (0.25 + 0.75 * 100 / 255)), int(100 * (0.25 + 0.75 * 100 / 255)), 0]


def test_resizing_to_the_same_size_changes_nothing(made: Photographs) -> None:
    image = np.random.default_rng(0).integers(24, 256, (28, 28)).astype(np.uint8)
    sprite = tinted(image, 28, np.full(3, 255.0))
    back = np.zeros((28, 28))
    back[sprite.rows + 14, sprite.columns + 14] = sprite.colours[:, 0]
    assert np.abs(back - 255 * (0.25 + 0.75 * image / 255)).max() <= 1


# --- one garment moves by itself


def test_exactly_one_moves_against_the_others(layouts: list[Layout]) -> None:
    panned = 0
    for seed, layout in enumerate(layouts[:200]):
        assert GARMENTS[layout.garments[layout.mover].kind] == GARMENTS[seed % 10]
        steps = np.array([layout.position(i, 1.5) - layout.position(i, 0.5) for i in range(len(layout.garments))])
        others = np.delete(steps, layout.mover, axis=0)
        np.testing.assert_allclose(others, others[:1].repeat(len(others), axis=0), atol=1e-9)
        assert 0.15 <= np.hypot(*(steps[layout.mover] - others[0])) / HEIGHT <= 0.5
        panned += bool(np.hypot(*others[0]) > 1e-9)
    assert 0.38 < panned / 200 < 0.62


def test_the_ground_pans_with_the_garments(made: Photographs, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        fashion, "draw_frames", lambda random, form, scene, add, still: seen.append((scene.ground_speed, form))
    )
    for seed in range(30):
        clip_of(made, seed)
    speeds = [math.hypot(*speed) / min(form.height, form.width) for speed, form in seen]
    assert 6 < sum(speed > 0.061 for speed in speeds) < 24  # 0.06: the fastest drift without a pan


# --- one frame does not tell which


def test_four_or_five_garments_of_different_kinds(layouts: list[Layout]) -> None:
    counts = Counter(len(layout.garments) for layout in layouts)
    assert tuple(sorted(counts)) == IN_VIEW == (4, 5)
    assert 330 < counts[4] < 470
    for layout in layouts:
        assert len({garment.kind for garment in layout.garments}) == len(layout.garments)


def test_the_mover_is_any_of_the_garments_in_view(layouts: list[Layout]) -> None:
    for count in IN_VIEW:
        chosen = [layout for layout in layouts if len(layout.garments) == count]
        places = np.bincount([layout.mover for layout in chosen], minlength=count) / len(chosen)
        assert np.abs(places - 1 / count).max() < 5 * math.sqrt(0.25 / len(chosen))
        # of the garments in view, each kind is as often the mover as any other
        shown, moved = Counter(), Counter()
        for layout in chosen:
            shown.update(garment.kind for garment in layout.garments)
            moved[layout.garments[layout.mover].kind] += 1
        for kind in range(10):
            assert abs(moved[kind] / shown[kind] - 1 / count) < 5 * math.sqrt(0.2 / shown[kind])


@pytest.mark.parametrize("seconds", [0.0, 0.7, 2.0, None])
def test_at_every_moment_movers_and_others_are_distributed_alike(layouts: list[Layout], seconds: float | None) -> None:
    """Sizes, tints and positions on the torus, and where the other garments are from there."""
    chance = np.random.default_rng(3)
    found: dict[bool, list[list[float]]] = {True: [], False: []}
    for layout in layouts:
        moment = chance.uniform(0, 4) if seconds is None else seconds
        turns = [layout.position(i, moment) * math.tau / (HEIGHT, WIDTH) for i in range(len(layout.garments))]
        for index, garment in enumerate(layout.garments):
            near = [np.cos(turns[index] - other) for i, other in enumerate(turns) if i != index]
            shown = [*np.cos(turns[index]), *np.sin(turns[index]), *np.mean(near, axis=0)]
            colour = garment.sprite.colours.max(axis=0) / 255
            found[index == layout.mover].append([*shown, np.ptp(garment.sprite.columns) / HEIGHT, *colour])
    movers, others = (np.array(found[moves]) for moves in (True, False))
    error = np.sqrt(movers.var(axis=0) / len(movers) + others.var(axis=0) / len(others))
    assert np.abs((movers.mean(axis=0) - others.mean(axis=0)) / error).max() < 4.5
    # uniform on the torus: each wave has mean 0
    assert np.abs(movers[:, :4].mean(axis=0)).max() < 5 * math.sqrt(0.5 / len(movers))


# --- the photographs


@installed
def test_training_and_test_photographs_stay_apart() -> None:
    train, validation, choosing = (read_part(part) for part in ("train", "validation", "choosing"))
    assert (len(train.labels), len(validation.labels), len(choosing.labels)) == (60_000, 5_000, 5_000)
    test = read_photographs("test")
    assert np.array_equal(np.stack([validation.images, choosing.images], axis=1).reshape(10_000, 28, 28), test.images)
    assert Counter(train.labels.tolist()) == dict.fromkeys(range(10), 6_000)
    for name, split in FAMILIES["moving_fashion"].splits.items():
        assert split.photographs == (name.removesuffix("_still") if not name.startswith("train") else "train")


def write_idx(folder: Path, name: str, values: np.ndarray, magic: int) -> None:
    header = np.array([magic, *values.shape], dtype=">u4").tobytes()
    (folder / name).write_bytes(gzip.compress(header + values.tobytes()))


def test_photographs_are_read_from_idx_files(made: Photographs, tmp_path: Path) -> None:
    write_idx(tmp_path, "t10k-images-idx3-ubyte.gz", made.images, 0x0803)
    write_idx(tmp_path, "t10k-labels-idx1-ubyte.gz", made.labels, 0x0801)
    read = read_photographs("test", str(tmp_path))
    assert np.array_equal(read.images, made.images)
    assert np.array_equal(read.labels, made.labels)
    write_idx(tmp_path, "t10k-labels-idx1-ubyte.gz", made.labels[:-1], 0x0801)
    with pytest.raises(ValueError, match=r"\(30, 28, 28\) images and 29 labels do not fit"):
        read_photographs("test", str(tmp_path))
    write_idx(tmp_path, "t10k-labels-idx1-ubyte.gz", made.labels, 0x0803)
    with pytest.raises(ValueError, match="is not the IDX file of the photographs"):
        read_photographs("test", str(tmp_path))


def test_a_kind_without_photographs_and_another_class_are_refused(made: Photographs) -> None:
    with pytest.raises(ValueError, match=r"^photographs: none of 1 shows a "):
        draw_fashion("bag", np.random.default_rng(0), photographs=Photographs(made.images[:1], made.labels[:1]))
    with pytest.raises(ValueError, match=r"^class 'hat': the moving fashion has T-shirt or top, trouser"):
        draw_fashion("hat", np.random.default_rng(0), photographs=made)


def test_without_the_package_one_line_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(photographs, "FOLDER", str(tmp_path / "none"))
    arguments = ["--family", "moving_fashion", "--output", str(tmp_path / "out")]
    ended = run_tool_file("make_mini_kinetics.py", arguments, monkeypatch, capsys)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert ended.err.endswith("apt-get install dataset-fashion-mnist\n")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
