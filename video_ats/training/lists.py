"""The videos of a training: its classes, what is held out for validation, and the batch that fits the list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from video_ats.models.registry import Variant
from video_ats.runs.options import RANDOM_WEIGHTS, fill_in
from video_ats.runs.tables import csv_text
from video_ats.runs.weights import GivenWeights
from video_ats.training.clips import seed_of
from video_ats.training.configuration import TrainConfig
from video_ats.video.lists import VideoList
from video_ats.video.lists.label_names import built_in_names, fold_label, index_by_name, is_mirror_safe, known_names
from video_ats.video.source import open_videos
from video_ats.video.views import ViewPlan

_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_MOST_CLIPS, _MOST_PATCHES = 8, 4 * 8 * 14**2  # of a forward pass; patches of 16 pixels: 4 clips of 8 frames at 224


@dataclass(frozen=True)
class TrainingLists:
    """The lists of a training, and its configuration with model, classes and labels filled in."""

    config: TrainConfig
    train: VideoList
    validation: VideoList | None
    held_out: bool  # whether the validation list is a part of the list that was given for training
    new_head: bool  # whether the classes are not those of the checkpoint, whose head then means nothing
    notes: tuple[str, ...]


def open_lists(config: TrainConfig, variant: Variant, given: GivenWeights) -> TrainingLists:
    """List the videos of training and validation; ValueError for lists that do not go together or cannot be trained on.

    Where no classes are named, they are those of the checkpoint if it has all that occur, and else those that occur.
    """
    if config.train.videos is None and config.train.annotations is None:
        raise ValueError("train.videos: none given; name a folder with one folder of videos a class, or a list")
    filled, listed, notes = fill_in(config, variant, given), None, list[str]()
    if config.num_classes is None and config.dataset is None and config.train.labels is None:
        listed = _own_classes(config, filled)
    new_head = listed is not None
    if listed is None:
        listed = given.open_videos(filled.train, filled.num_classes, output=config.output)
    else:
        names = listed.label_names or ()
        train = replace(filled.train, labels=None)
        validated = replace(filled.validation, labels=config.validation.labels)
        filled = replace(filled, num_classes=len(names), train=train, validation=validated)
        note = f"{len(names)} classes, those of {listed.source}: {_some(names)}"
        if given.checkpoint not in (None, RANDOM_WEIGHTS):
            note += f"; they are not those of checkpoint {given.checkpoint}, whose head is replaced"
        notes.append(note)
    notes += [f"train: {note}" for note in listed.notes]
    validation = None
    if filled.validation.videos is not None or filled.validation.annotations is not None:
        validation = _open_validation(filled, given, listed, num_classes=None if new_head else filled.num_classes)
        notes += [f"validation: {note}" for note in validation.notes]
    if filled.augment.flip and not is_mirror_safe(listed.label_names):
        raise ValueError(
            f"augment.flip {filled.augment.flip}: the labels of {listed.source} name classes that a mirror image turns "
            "into others; set it to 0"
        )
    held_out = False
    if validation is None and filled.hold_out:
        listed, validation, told = hold_out(listed, filled.hold_out, filled.seed)
        notes += told
        if held_out := validation is not None:
            filled = replace(filled, validation=filled.train)  # how they are read
    return TrainingLists(filled, listed, validation, held_out, new_head, tuple(notes))


def _own_classes(config: TrainConfig, filled: TrainConfig) -> VideoList | None:
    """The training list with the classes that occur in it; None where the checkpoint has all, or none has a name."""
    listed = open_videos(replace(filled.train, labels=None), num_classes=None, output=config.output)
    names, folder = listed.label_names, config.train.videos
    if names is None:
        return None
    known = known_names(filled.train.labels, filled.num_classes)
    of_checkpoint = known.names if known else built_in_names(filled.num_classes) or ()
    if set(map(fold_label, names)) <= set(map(fold_label, of_checkpoint)):
        return None
    if len(names) > 1 and _SPLITS.issuperset(name.lower() for name in names):
        raise ValueError(
            f"train.videos {folder}: its folders are {_some(names)}, parts of a data set and no classes; name one "
            "as train.videos and one as validation.videos"
        )
    if len(names) == 1:
        deeper = all(entry.key.count("/") > 1 for entry in listed.entries)
        meant = f"; did you mean {os.path.join(folder or '', names[0])}?" if deeper and listed.source == folder else ""
        raise ValueError(f"train {listed.source}: has one class, {names[0]!r}; training needs two or more{meant}")
    return listed


def _open_validation(
    config: TrainConfig, given: GivenWeights, listed: VideoList, *, num_classes: int | None
) -> VideoList:
    """The validation list, with the classes numbered as in the training list."""
    validation = given.open_videos(config.validation, num_classes, output=config.output)
    names, others = listed.label_names, validation.label_names
    if names is None or others is None or names == others:
        return validation
    table = index_by_name(names)
    for entry in validation.entries:
        if fold_label(name := others[entry.known_label]) not in table:
            raise ValueError(
                f"validation {validation.source}: class {name!r} is not among the {len(names)} classes "
                f"of training, {_some(names)}; take it out, or add it to training"
            )
    entries = (replace(entry, label=table[fold_label(others[entry.known_label])]) for entry in validation.entries)
    return replace(validation, entries=tuple(entries), label_names=names)


def hold_out(listed: VideoList, share: float, seed: int) -> tuple[VideoList, VideoList | None, tuple[str, ...]]:
    """Divide a list into training and validation: a share of each class, drawn with the seed, but at least one video
    on both sides. A class of one video stays in training. Both parts keep the order of the list.

    Returns:
        The list for training, that for validation (None: every class has one video), and notes.
    """
    of_class: dict[int, list[int]] = {}
    for place, entry in enumerate(listed.entries):
        of_class.setdefault(entry.known_label, []).append(place)
    held, single, names = set[int](), list[str](), listed.label_names
    for label, places in sorted(of_class.items()):
        count = min(max(round(share * len(places)), 1), len(places) - 1)
        order = np.random.default_rng(seed_of(seed, label)).permutation(len(places))
        held.update(places[number] for number in order[:count])
        if len(places) == 1:
            single.append(str(label) if names is None else names[label])
    notes = (f"classes of a single video, which stays in training: {_some(single)}",) if single else ()
    if not held:
        return listed, None, (*notes, "no video is held out for validation")
    told = (
        f"{len(held)} of {len(listed.entries)} videos are held out for validation, {share:.0%} of each class, drawn "
        f"with seed {seed} (--hold_out 0 trains on all)"
    )
    kept, out = (
        replace(listed, entries=tuple(entry for place, entry in enumerate(listed.entries) if (place in held) == wanted))
        for wanted in (False, True)
    )
    return kept, out, (told, *notes)


def list_text(listed: VideoList, root: str | None) -> str:
    """A list as CSV of paths relative to ``root``, and labels, which ``data.annotations`` of an evaluation takes."""
    names, folder = listed.label_names, f"{root}".rstrip("/") + "/"
    return csv_text(
        [
            {"path": each.path.removeprefix(folder), "label": each.label if names is None else names[each.known_label]}
            for each in listed.entries
        ]
    )


def fit_batch(config: TrainConfig, videos: int, plan: ViewPlan, processes: int) -> tuple[TrainConfig, tuple[str, ...]]:
    """The configuration with ``batch_size`` and ``micro_batch_size`` where they are null, and a note that says them.

    A step gets at most 64 clips and at most a quarter of the list; a forward pass at most 8 clips, fewer of large ones.
    """
    batch, micro = config.batch_size, config.micro_batch_size
    if batch is not None and micro is not None:
        return config, ()
    if batch is None:
        each = max(min(64, videos // 4) // processes, 1)
        each = 1 << (each.bit_length() - 1)  # a power of two
        batch = (each if micro is None else max(each // micro, 1) * micro) * processes
    if micro is None:
        patches = plan.num_frames * (plan.crop_size / 16) ** 2
        each = max(batch // processes, 1)
        most = min(_MOST_CLIPS, each, max(int(_MOST_PATCHES / patches), 1))
        micro = next(size for size in range(most, 0, -1) if each % size == 0)
    told = f"batch_size {batch}, micro_batch_size {micro}: fitted to the {videos} videos and the size of a clip"
    return replace(config, batch_size=batch, micro_batch_size=micro), (told,)


def _some(names: Sequence[str]) -> str:
    """Names for a reader: the first ten, and how many more there are."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
