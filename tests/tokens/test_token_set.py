"""Token sets and their groupings against brute force over tuples (clip, frame, row, column)."""

from itertools import product

import pytest
import torch

from video_ats.tokens import Grid, Grouping, Origin, TokenSet

GRID = Grid(clips=2, frames=3, rows=2, columns=4)
PLACES = list(product(*map(range, GRID)))

# For each grouping: the key of a token's group, and the groups of a whole grid in order.
KEYS = {
    "by_frame": (lambda place: place[:2], list(product(range(2), range(3)))),
    "by_clip": (lambda place: place[:1], [(0,), (1,)]),
    "by_position": (lambda place: (place[0], *place[2:]), list(product(range(2), range(2), range(4)))),
}


def ragged_keep() -> torch.Tensor:
    """Half the tokens; frame 1 of clip 0 and position (1, 3) of clip 1 have lost all of theirs."""
    keep = torch.rand(GRID.size, generator=torch.Generator().manual_seed(3)) < 0.5
    lost = [place[:2] == (0, 1) or (place[0] == 1 and place[2:] == (1, 3)) for place in PLACES]
    return keep & ~torch.tensor(lost)


def of_places(*places: tuple[int, ...]) -> torch.Tensor:
    """In each clip the given numbers of places in all frames."""
    return torch.tensor([place[2] * 4 + place[3] in places[place[0]] for place in PLACES])


# The frames of a clip have the same places: equally many in both clips, or more in the second.
ALIGNED = {"table": of_places((0, 3, 6), (1, 2, 7)), "tubes": of_places((5,), (0, 1, 2, 4, 5, 6, 7))}
KEEPS = ALIGNED | {
    "whole": torch.ones(GRID.size, dtype=torch.bool),
    "ragged": ragged_keep(),
    "one token": torch.arange(GRID.size) == 29,
    "one per frame": torch.arange(GRID.size) % GRID.positions == 5,
    "no token": torch.zeros(GRID.size, dtype=torch.bool),
}


def origin_of(name: str) -> tuple[Origin, list[tuple[int, ...]]]:
    whole = Origin.whole(GRID, torch.device("cpu"))
    keep = KEEPS[name]
    origin = whole if name == "whole" else whole.select(keep, aligned=name in ALIGNED).origin
    return origin, [place for place, stays in zip(PLACES, keep.tolist(), strict=True) if stays]


def expected_groups(name: str, grouping: str) -> list[list[int]]:
    """For each group the packed indices of its tokens."""
    key, groups = KEYS[grouping]
    _, places = origin_of(name)
    members = [[index for index, place in enumerate(places) if key(place) == group] for group in groups]
    return [group for group in members if group or grouping != "by_position"]


def found_groups(groups: Grouping, grouping: str) -> list[list[int]]:
    """The same of a grouping; by position, those without tokens are left out."""
    members: list[list[int]] = [[] for _ in range(groups.num_groups)]
    for token, group in enumerate(groups.group.tolist()):
        members[group].append(token)
    assert groups.lengths.tolist() == [len(group) for group in members]
    return [group for group in members if group or grouping != "by_position"]


def test_grid_counts() -> None:
    assert (GRID.positions, GRID.per_clip, GRID.size) == (8, 24, 48)


@pytest.mark.parametrize("name", KEEPS)
def test_coordinates_and_presence(name: str) -> None:
    origin, places = origin_of(name)
    assert list(zip(origin.clip.tolist(), origin.frame.tolist(), strict=True)) == [place[:2] for place in places]
    assert [tuple(place) for place in origin.presence().nonzero().tolist()] == places
    assert origin.presence().shape == tuple(GRID)
    assert origin.is_whole == (name == "whole")


@pytest.mark.parametrize("grouping", KEYS)
@pytest.mark.parametrize("name", [name for name in KEEPS if name != "no token"])
def test_grouping_is_brute_force(name: str, grouping: str) -> None:
    origin, places = origin_of(name)
    groups: Grouping = getattr(origin, grouping)
    members = expected_groups(name, grouping)
    lengths = [len(group) for group in members]
    assert found_groups(groups, grouping) == members
    columns = columns_of(name, grouping)
    assert groups.place.tolist() == [columns[token] for token in range(len(places))]
    assert groups.longest >= max(lengths)
    if grouping != "by_position":
        longest = max(lengths)
        assert groups.longest == longest + (-longest % 8 if min(lengths) != longest else 0)
    if groups.mask is None:
        assert set(lengths) == {groups.longest}
    else:
        filled = sorted((group, columns[token]) for token, group in enumerate(groups.group.tolist()))
        assert [tuple(place) for place in groups.mask.nonzero().tolist()] == filled


def columns_of(name: str, grouping: str) -> list[int]:
    """For each token its place in its group's row: one after the other, or by position its frame."""
    _, places = origin_of(name)
    if grouping == "by_position":
        return [place[1] for place in places]
    place_in_group = {token: place for group in expected_groups(name, grouping) for place, token in enumerate(group)}
    return [place_in_group[token] for token in range(len(places))]


@pytest.mark.parametrize("grouping", KEYS)
@pytest.mark.parametrize("name", [name for name in KEEPS if name != "no token"])
def test_pad_puts_each_token_in_its_group_and_unpad_brings_it_back(name: str, grouping: str) -> None:
    origin, places = origin_of(name)
    groups: Grouping = getattr(origin, grouping)
    packed = 1 + torch.arange(len(places) * 6.0).reshape(len(places), 2, 3)
    table, columns = groups.pad(packed), columns_of(name, grouping)
    assert table.shape == (groups.num_groups, groups.longest, 2, 3)
    for token, group in enumerate(groups.group.tolist()):
        assert torch.equal(table[group, columns[token]], packed[token])
    assert table.count_nonzero() == packed.numel()
    assert torch.equal(groups.unpad(table), packed)
    assert torch.equal(groups.unpad(groups.pad(packed[:, 0, 0] > 5)), packed[:, 0, 0] > 5)
    joined = groups.unpad(table, packed[:2])
    assert torch.equal(joined, torch.cat([packed, packed[:2]]))


def test_pad_is_differentiable_where_tokens_are() -> None:
    origin, places = origin_of("ragged")
    packed = torch.ones(len(places), requires_grad=True)
    (3 * origin.by_frame.pad(packed)).sum().backward()
    assert packed.grad is not None
    assert packed.grad.tolist() == [3.0] * len(places)


@pytest.mark.parametrize("grouping", ["by_frame", "by_clip"])
def test_a_whole_table_is_a_view(grouping: str) -> None:
    groups = getattr(Origin.whole(GRID, torch.device("cpu")), grouping)
    packed = torch.randn(GRID.size, 5)
    table = groups.pad(packed)
    assert table.data_ptr() == packed.data_ptr()
    assert groups.unpad(table).data_ptr() == packed.data_ptr()


def test_a_whole_table_by_position_of_one_clip_is_a_view() -> None:
    packed = torch.randn(GRID.per_clip, 5)
    groups = Origin.whole(GRID._replace(clips=1), torch.device("cpu")).by_position
    assert groups.pad(packed).data_ptr() == packed.data_ptr()


@pytest.mark.parametrize("grouping", KEYS)
def test_groups_of_no_token_at_all(grouping: str) -> None:
    origin, _ = origin_of("no token")
    groups: Grouping = getattr(origin, grouping)
    assert found_groups(groups, grouping) == ([] if grouping == "by_position" else [[] for _ in KEYS[grouping][1]])
    assert groups.unpad(groups.pad(torch.zeros(0, 5))).shape == (0, 5)
    assert not origin.presence().any()


@pytest.mark.parametrize("grouping", KEYS)
def test_a_table_is_a_view_after_selection_too(grouping: str) -> None:
    origin, _ = origin_of("table")
    assert origin.is_table
    assert origin.per_frame == 3
    packed = torch.randn(18, 5)
    assert getattr(origin, grouping).slots is None
    if grouping != "by_position":
        assert getattr(origin, grouping).pad(packed).data_ptr() == packed.data_ptr()


@pytest.mark.parametrize(("name", "aligned"), [("one per frame", False), ("tubes", True)])
def test_no_table_without_the_same_places_and_counts(name: str, aligned: bool) -> None:
    origin, _ = origin_of(name)
    assert origin.aligned == aligned
    assert not origin.is_table


@pytest.mark.parametrize("name", KEEPS)
def test_counts(name: str) -> None:
    origin, places = origin_of(name)
    frames = [sum(place[:2] == key for place in places) for key in product(range(2), range(3))]
    clips = [sum(place[0] == clip for place in places) for clip in range(2)]
    assert origin.counts == (min(frames), max(frames), min(clips), max(clips))
    assert Origin(GRID, origin.index).counts == origin.counts


def test_a_known_number_gives_the_same_selection() -> None:
    whole, keep = Origin.whole(GRID, torch.device("cpu")), KEEPS["table"]
    found, expected = whole.select(keep, 3, aligned=True), whole.select(keep, aligned=True)
    assert torch.equal(found.rows, expected.rows)
    assert torch.equal(found.origin.index, expected.origin.index)
    assert found.origin.counts == expected.origin.counts


@pytest.mark.parametrize("name", [name for name in KEEPS if name != "no token"])
def test_tubes_are_the_positions_left_in_any_frame(name: str) -> None:
    origin, places = origin_of(name)
    tubes = sorted({(clip, 0, row, column) for clip, _, row, column in places})
    assert [tuple(place) for place in origin.tubes.presence().nonzero().tolist()] == tubes
    assert origin.tubes.grid == GRID._replace(frames=1)
    of_token = [tubes.index((clip, 0, row, column)) for clip, _, row, column in places]
    assert origin.of_tubes(torch.arange(len(tubes))).tolist() == of_token
    values = torch.randn(len(places), dtype=torch.float64)
    means = [values[[tube == own for own in of_token]].mean() for tube in range(len(tubes))]
    torch.testing.assert_close(origin.tube_means(values), torch.stack(means))
    assert origin.tubes.counts == Origin(origin.tubes.grid, origin.tubes.index).counts


@pytest.mark.parametrize("segment", [1, 3])
@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("name", KEEPS)
def test_the_same_position_in_another_frame(name: str, step: int, segment: int) -> None:
    origin, places = origin_of(name)
    wanted = [(clip, frame + step, *rest) for clip, frame, *rest in places]
    same_segment = [frame // segment == (frame + step) // segment for _, frame, *_ in places]
    expected = [
        places.index(place) if place in places and inside else len(places)
        for place, inside in zip(wanted, same_segment, strict=True)
    ]
    assert origin.in_frame(step, segment).tolist() == expected


def test_a_chain_of_selections_keeps_origin_and_tokens_together() -> None:
    tokens = TokenSet.of(
        torch.arange(GRID.size)[:, None].expand(-1, 6).float(),
        torch.zeros(2, 1, 6),
        Origin.whole(GRID, torch.device("cpu")),
    )
    left = list(range(GRID.size))
    for step in (2, 3):
        keep = torch.arange(len(left)) % step != 0
        tokens = tokens.select(tokens.origin.select(keep))
        left = [token for token, stays in zip(left, keep.tolist(), strict=True) if stays]
        assert tokens.patches[:, 0].tolist() == left
        assert tokens.origin.index.tolist() == left
    assert tokens.class_tokens.shape == (2, 1, 6)
    assert not tokens.origin.is_whole


def test_map_reaches_patches_and_class_tokens() -> None:
    origin, places = origin_of("ragged")
    tokens = TokenSet.of(torch.ones(len(places), 6), torch.ones(2, 3, 6), origin).map(lambda x: 2 * x)
    assert tokens.patches.eq(2).all()
    assert tokens.class_tokens.eq(2).all()


@pytest.mark.parametrize(
    ("patches", "class_tokens", "named"),
    [
        ((47, 6), (2, 1, 6), r"\(47, 6\).*48 origins"),
        ((2, 24, 6), (2, 1, 6), r"patches \(2, 24, 6\) must be \(P, D\)"),
        ((48, 6), (3, 1, 6), r"class_tokens \(3, 1, 6\).*\(2, 1 or 3, 6\)"),
        ((48, 6), (2, 2, 6), r"class_tokens \(2, 2, 6\)"),
        ((48, 6), (2, 1, 5), r"class_tokens \(2, 1, 5\)"),
        ((48, 6), (2, 6), r"class_tokens \(2, 6\)"),
    ],
)
def test_shapes_that_do_not_fit(patches: tuple[int, ...], class_tokens: tuple[int, ...], named: str) -> None:
    origin = Origin.whole(GRID, torch.device("cpu"))
    with pytest.raises(ValueError, match=named):
        TokenSet.of(torch.zeros(patches), torch.zeros(class_tokens), origin)


def test_repr_prints_shapes_not_values() -> None:
    origin, places = origin_of("ragged")
    text = repr(TokenSet.of(torch.full((len(places), 6), 0.123), torch.full((2, 1, 6), 0.123), origin))
    assert f"({len(places)}, 6)" in text
    assert "(2, 1, 6)" in text
    assert "(2, 3, 2, 4)" in text
    assert "0.123" not in text
    assert "tensor" not in text


@pytest.mark.parametrize(("leading", "count"), [(0, 0), (1, 1), (1, 3), (2, 2), (2, 6)])
def test_leading_tokens_come_in_sets_of_a_clip_or_a_frame(leading: int, count: int) -> None:
    origin = Origin.whole(GRID, torch.device("cpu"))
    tokens = TokenSet.of(torch.zeros(48, 6), torch.zeros(2, count, 6), origin, leading)
    assert tokens.select(origin.select(torch.arange(48) < 3)).leading == tokens.map(lambda x: x + 1).leading == leading
    with pytest.raises(ValueError, match=r"class_tokens \(2, 4, 6\)"):
        TokenSet.of(torch.zeros(48, 6), torch.zeros(2, 4, 6), origin, leading)
