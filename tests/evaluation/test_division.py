"""Batches by place in the list: what is left to do, and whose it is."""

from collections.abc import Sequence

import numpy as np
import pytest

from video_ats.evaluation.division import Shard, divide, left_over, part_of

KEYS = "abcdefg"
BATCHES = divide(KEYS, 2)


def keys(batches: Sequence[Sequence[str]]) -> list[str]:
    return ["".join(batch) for batch in batches]


def test_neighbours_share_a_batch_and_the_last_may_be_short() -> None:
    assert keys(BATCHES) == ["ab", "cd", "ef", "g"]
    assert divide([], 2) == []


@pytest.mark.parametrize("of", [1, 2, 3, 5])
def test_a_shard_has_the_batches_of_its_part(of: int) -> None:
    for number in range(of):
        batches = keys(part_of(BATCHES, number, of))
        listed = [KEYS[place] for place in Shard(number + 1, of).places(len(KEYS), 2)]
        assert "".join(listed) == "".join(batches)
        assert keys(divide(listed, 2)) == batches


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
    there, again = (np.array([key in chosen for key in KEYS]) for chosen in (done, missing))
    assert keys([[KEYS[place] for place in batch] for batch in left_over(2, there, again)]) == left
