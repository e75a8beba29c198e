"""Read a list of videos: an annotation file in one of several forms, a tree of class folders, or videos alone."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from video_ats.video.fetch import join_path
from video_ats.video.lists import ListedVideo, ListFile, Listing, VideoEntry, VideoList
from video_ats.video.lists.columns import FOLDER_NOTE, NO_SUBSETS, Row, choose_subset, one_label, read_table
from video_ats.video.lists.folders import (
    VideoFolder,
    check_video_root,
    index_videos,
    is_inside,
    read_class_folders,
    read_unlabelled,
)
from video_ats.video.lists.json_lists import read_json_list
from video_ats.video.lists.label_names import fold_label, is_not_utf8, known_names, read_text_file
from video_ats.video.lists.lookup import Lookup
from video_ats.video.lists.numbering import Classes, number_labels
from video_ats.video.lists.path_lists import read_path_list
from video_ats.video.lists.tar_shards import read_tar_list

_HEADERLESS_KINETICS_ROW = re.compile(r".*,\s*[A-Za-z0-9_-]{11}\s*,\s*\d+\s*,\s*\d+\s*(?:,.*)?")
_HMDB_FILE = re.compile(r"(?P<label>.+)_test_split[123]\.txt")
_HMDB_SUBSETS = {"0": "none", "1": "train", "2": "test"}
_UNLABELLED = "the videos are taken to have no labels"
_ID = re.compile(r"[A-Za-z0-9_-]+")


def read_video_list(
    *,
    annotations: str | None,
    videos: str | None,
    labels: str | None = None,
    num_classes: int | None = None,
    allow_outside_root: bool = False,
    encoding: str | None = None,
    labels_start_at: int | None = None,
    subset: str | None = None,
    frame_folders: bool = False,
    images: bool = False,
    output: str | None = None,
    labelled: bool | None = True,
) -> VideoList:
    """Read an annotation file, a class-folder tree, or a folder of videos without labels.

    The form of a file is recognised by its text:

    - A table with a header, JSON: see `read_columns`, `read_json_list`. Rows with ``youtube_id`` (Kinetics) stand for
      the files ``ID_START_END.*`` (six digits each) or else ``ID.*`` under ``videos``.
    - Lists of videos in tar files, which ``video-ats index-tars`` writes.
    - HMDB51's split files, by their names (``CLASS_test_split1.txt``); a pattern such as ``*_test_split1.txt`` takes
      those of all classes.
    - Lines of a path and a label, see `read_path_list`.

    A listed path that is not there is looked for with ``/`` instead of ``\\``, and with another ending, if it is the
    only video of that name in its folder; names without ending (ids) also as ``ID.*`` anywhere under ``videos``.

    Args (the others as in `video.source.DataConfig`):
        videos: may be None for path lists, whose relative paths then start at the working directory. Paths may be URLs,
            which are not looked up.
        num_classes: the model's number of classes; checks labels and lists. Without ``labels``, 400 and 600 stand for
            the Kinetics names if every name that occurs is one; otherwise classes are numbered by their sorted names.
        frame_folders: whether a folder of numbered images is a video.
        images: whether any other image in the folder ``videos`` is one, where no list is given.
        output: folder that is left out where folders are searched.
        labelled: True: every video has to have a label. False: labels are not read, and videos may lie at any depth.
            None: as it shows, which is noted: a folder without subfolders of videos has none, nor has a list without a
            column of labels whose videos do not lie in folders of classes.

    Raises:
        FileNotFoundError: a named file or folder does not exist.
        ValueError: one line that says which line, which value, and what was expected.
    """
    classes = Classes(known_names(labels, num_classes, encoding), num_classes, labels_start_at)
    if videos is not None:
        check_video_root(videos)
    if annotations is None:
        if videos is None:
            raise ValueError("neither annotations nor videos is given; pass a list, a class-folder tree or both")
        folder = index_videos(videos, frame_folders=frame_folders, images=images, leave_out=output)
        if labelled is False or (labelled is None and not any("/" in path for path in folder.paths)):
            found = read_unlabelled(folder, classes.listed_names)
            shown = [f"{_UNLABELLED}: {videos} has no class folders"] if labelled is None else []
            return replace(found, notes=(*found.notes, *shown))
        return read_class_folders(folder, classes.listed_names, num_classes)
    lookup = Lookup(videos, frame_folders=frame_folders)
    text, sha256, parts = _read_text(annotations, encoding)
    file = ListFile(text, annotations, classes.names, lookup, subset)
    listing = _read_hmdb(file, parts) if parts else _read(file)
    if not listing.videos:
        told = "".join(f"; {note}" for note in listing.notes)
        raise ValueError(f"annotation file {annotations!r} lists no video{told}")
    if listing.videos[0].stems and videos is None:
        raise ValueError(f"{annotations!r} lists ids; pass videos, the folder in which to look for their files")
    for video in listing.videos:
        if not video.stems and not allow_outside_root and not is_inside(video.path, videos):
            raise ValueError(
                f"{video.place}: {video.path!r} leads out of {repr(videos) if videos else 'the working directory'}; "
                "pass the folder that holds all listed videos as videos, or, if you trust the list, "
                "allow_outside_root true"
            )
    indices, names, notes = _number(listing, file, classes, labelled)
    listing, folder_of_ids = _look_for_ids(listing, lookup)
    entries, changed = _entries(listing, lookup, folder_of_ids, indices, names)
    if encoding is None and is_not_utf8(text):
        odd = next(number for number, line in file.lines() if is_not_utf8(line))
        notes.append(
            f"{file.place(odd)} is not UTF-8: its path is taken byte by byte (else pass --data.encoding latin-1)"
        )
    told_once = tuple(dict.fromkeys((*notes, *changed)))
    return VideoList(tuple(entries), names, annotations, listing.form, sha256, told_once)


def _number(
    listing: Listing, file: ListFile, classes: Classes, labelled: bool | None
) -> tuple[Sequence[int | None], tuple[str, ...] | None, list[str]]:
    """Class indices (None: the videos are taken without), the class names if they are known, and all notes so far."""
    videos, by_folder = listing.videos, FOLDER_NOTE in listing.notes
    if labelled is False:
        reason = [] if by_folder else [f"the labels of {file.source} are not read"]
    elif labelled is None and by_folder and not _are_classes(videos, file):
        reason = [f"{_UNLABELLED}: the list has no column of labels, and the folders of its videos name no classes"]
    else:
        if by_folder:
            _check_folder_labels(videos, file, is_any_folder=classes.listed is not None)
        indices, names, notes = number_labels(videos, classes)
        return indices, names, [*listing.notes, *notes]
    notes = [note for note in listing.notes if note != FOLDER_NOTE]
    return [None] * len(videos), classes.listed_names, [*notes, *reason]


def _read_text(annotations: str, encoding: str | None) -> tuple[str, str, list[tuple[str, str]]]:
    """Text and SHA-256 of an annotation file; and name and text of each split file of HMDB51 that it is or fits it."""
    if os.path.isdir(annotations):
        raise ValueError(
            f"annotation file {annotations!r} is a folder; pass a class-folder tree as videos alone, and the split "
            f"files of HMDB51 as {os.path.join(annotations, '*_test_split1.txt')!r}"
        )
    if "*" not in annotations or os.path.exists(annotations):
        text, sha256 = read_text_file(annotations, "annotation file", encoding)
        name = os.path.basename(annotations)
        return text, sha256, [(name, text)] if _HMDB_FILE.fullmatch(name) else []
    paths = sorted(glob.glob(annotations))
    if not paths:
        raise FileNotFoundError(f"annotation file {annotations!r}: no file fits this pattern")
    parts = [(os.path.basename(path), read_text_file(path, "annotation file")[0]) for path in paths]
    for name, _ in parts:
        if not _HMDB_FILE.fullmatch(name):
            raise ValueError(
                f"annotation file {annotations!r}: several files are one list only where they are split files of "
                f"HMDB51 (CLASS_test_split1.txt), unlike {name!r}"
            )
    text = "".join(text for _, text in parts)
    return text, hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), parts


def _are_classes(videos: Sequence[ListedVideo], file: ListFile) -> bool:
    """Whether the folders of a list without labels look like classes: some are known, or none is and they differ."""
    folders = {video.label for video in videos}
    if file.known:
        return any(fold_label(folder) in file.known for folder in folders)
    return "" not in folders and len(folders) > 1


def _check_folder_labels(videos: Sequence[ListedVideo], file: ListFile, *, is_any_folder: bool) -> None:
    """Raise ValueError where the folders of a list without labels cannot be the classes of its videos."""
    for video in videos:
        if not video.label and video.stems:
            raise ValueError(f"{file.source!r} has no label column; a list without labels (test set) cannot be scored")
        if not video.label:
            raise ValueError(
                f"{video.place}: {video.path[:80]!r} has no label, nor a folder that names its class; write "
                "'path label' on each line"
            )
        one_label(video.place, video.label, file.known)
    if not is_any_folder and len({video.label for video in videos}) == 1:
        raise ValueError(
            f"{videos[0].place} has no label, and all videos are in folder {videos[0].label!r}, which says nothing; "
            "write 'path label' on each line"
        )


def _read(file: ListFile) -> Listing:
    """The list in the first form that fits; each reader returns None for a text of another form."""
    first = next((line for _, line in file.lines()), "")
    if _HEADERLESS_KINETICS_ROW.fullmatch(first) and not first.lower().startswith("label,"):
        columns = "label,youtube_id,time_start,time_end"
        raise ValueError(f"{file.source!r} looks like a Kinetics CSV without its header {columns}")
    listing = read_tar_list(file) or read_json_list(file) or read_table(file)
    if listing is not None:
        return listing
    if file.subset is not None:
        raise ValueError(NO_SUBSETS.format(file.subset, repr(file.source)))
    return read_path_list(file)


def _read_hmdb(file: ListFile, parts: Sequence[tuple[str, str]]) -> Listing:
    """HMDB51: a file for each class, with lines ``NAME.avi 1``, where 1 is training, 2 is testing, 0 is neither."""
    rows = list[tuple[str, Row]]()
    for name, text in parts:
        label = name.rpartition("_test_split")[0]
        for line, content in replace(file, text=text).lines():
            video, _, number = content.rpartition(" ")
            if number not in _HMDB_SUBSETS or not video.strip():
                raise ValueError(
                    f"{name!r} line {line}: {content[:80]!r} is not 'NAME.avi 1' as in HMDB51's split files (0, 1 or 2)"
                )
            columns = {"name": video.strip(), "label": label, "subset": _HMDB_SUBSETS[number]}
            rows.append((f"{name!r} line {line}", columns))
    chosen, notes = choose_subset(file, rows, "subset")
    videos = []
    for place, row in chosen:
        path = f"{row['label']}/{row['name']}"
        videos.append(ListedVideo(place, path, row["label"], path, stems=(os.path.splitext(row["name"])[0],)))
    return Listing("hmdb_split", videos, notes)


def _look_for_ids(listing: Listing, lookup: Lookup) -> tuple[Listing, VideoFolder | None]:
    """The list, and the folder in which its names are looked for; None: its paths are files.

    A list of paths that are none, but look like ids, is one of names ``ID.*`` if one of these is there.
    """
    videos, root = listing.videos, lookup.root
    if videos[0].stems:
        return listing, index_videos(str(root), frame_folders=lookup.frame_folders)
    if root is None or not all(_ID.fullmatch(video.path) and not video.member for video in videos):
        return listing, None
    if any((found := lookup.find(video.path)) is not None and not found.changed for video in videos):
        return listing, None
    folder = index_videos(root, frame_folders=lookup.frame_folders)
    if not any(video.path in folder.by_stem for video in videos):
        return listing, None
    return Listing("id_label", [replace(video, stems=(video.path,)) for video in videos], listing.notes), folder


def _entries(
    listing: Listing,
    lookup: Lookup,
    folder: VideoFolder | None,
    indices: Sequence[int | None],
    names: Sequence[str] | None,
) -> tuple[list[VideoEntry], list[str]]:
    """The videos with the files that were found for them, and how many have another name than listed."""
    entries, listed_at = list[VideoEntry](), dict[str, str]()
    changes, examples = Counter[str](), dict[str, str]()
    # A video of several clips may have one name for all of them.
    times_listed = Counter(stem for video in listing.videos for stem in video.stems[1:])
    for video, label in zip(listing.videos, indices, strict=True):
        path, problem = join_path(lookup.root, video.path) + video.member, ""
        if folder is not None:
            class_name = names[label] if names and label is not None else video.label
            path, problem = _find_stem(video, folder, class_name, times_listed)
        elif not video.member and lookup.knows(video.path):
            found = lookup.find(video.path)
            if found is None:
                problem = "no such file"
            elif found.is_folder and not lookup.frame_folders:
                raise ValueError(
                    f"{video.place}: {video.path!r} is a folder; if it holds the frames of a video (img_00001.jpg, …), "
                    "pass --data.fps, the frames per second at which they were taken"
                )
            else:
                path, problem = found.path, found.problem
                if found.changed and not problem:
                    changes[found.changed] += 1
                    examples.setdefault(found.changed, f"{video.path!r} is {path!r}")
        # Two rows may be one file by what they say, or by what was found for them.
        for name in {os.path.normpath(video.key), os.path.normpath(video.key if folder else path)}:
            if (other := listed_at.setdefault(name, video.place)) != video.place:
                raise ValueError(f"{video.place}: {video.key!r} is already listed at {other}; every video counts once")
        entries.append(VideoEntry(video.key, path, label, problem, video.frames))
    notes = [
        f"{changes[kind]} {words}: {examples[kind]}"
        for kind, words in (
            ("separator", "paths are written with \\ instead of /"),
            ("ending", "files have another ending than the list says"),
        )
        if kind in changes
    ]
    return entries, notes


def _find_stem(video: ListedVideo, folder: VideoFolder, class_name: str, times_listed: Counter[str]) -> tuple[str, str]:
    """Path of the file of the first name that is there, and a problem (empty: none)."""
    for stem in video.stems:
        found = folder.find(stem, class_name)
        if found is not None and times_listed[stem] > 1:
            name = os.path.basename(found[0])
            problem = (
                f"{name} may be any of the {times_listed[stem]} clips of this id in the list; name it {video.key}.*"
            )
            return found[0], problem
        if found is not None:
            return found
    looked_for = " or ".join(f"{stem}.*" for stem in video.stems)
    return os.path.join(folder.root, video.path), f"no file {looked_for} under {folder.root}"
