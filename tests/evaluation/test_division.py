"""Batches by place in the list: what is left to do, and whose it is."""

import pytest

from video_ats.evaluation.division import Batch, divide, left_over, part_of
from video_ats.video.lists import VideoEntry

ENTRIES = [VideoEntry(key, f"{key}.mp4", 0) for key in "abcdefg"]
BATCHES = divide(ENTRIES, 2)


def keys(batches: list[Batch]) -> list[str]:
    return ["".join(entry.key for entry in batch) for batch in batches]


def test_neighbours_share_a_batch_and_the_last_may_be_short() -> None:
    assert keys(BATCHES) == ["ab", "cd", "ef", "g"]
    assert divide([], 2) == []


@pytest.mark.parametrize("of", [1, 2, 3, 5])
def test_every_batch_is_somebody_s_and_nobody_else_s(of: int) -> None:
    parts = [keys(list(part_of(BATCHES, number, of))) for number in range(of)]
    assert sorted(batch for part in parts for batch in part) == sorted(keys(BATCHES))


@pytest.mark.parametrize(
    ("done", "missing", "left"),
    [
        ("", "", ["ab", "cd", "ef", "g"]),
        ("abcdefg", "", []),
        ("ab", "", ["cd", "ef", "g"]),
        ("a", "", ["ab", "cd", "ef", "g"]),  # half a batch is scored again as a whole
        ("abcdeg", "f", ["f"]),  # a missing video is looked for again, its batch-mate is not scored again
        ("acdg", "bef", ["be", "f"]),
        ("cdg", "ef", ["ab", "ef"]),
        ("g", "a", ["ab", "cd", "ef"]),  # b was never looked at
    ],
)
def test_what_is_left(done: str, missing: str, left: list[str]) -> None:
    assert keys(left_over(BATCHES, 2, set(done), set(missing))) == left
