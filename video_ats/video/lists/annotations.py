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
from video_ats.video.lists.columns import FOLDER_NOTE, Row, choose_subset, one_label, read_table
from video_ats.video.lists.folders import check_video_root, index_videos, is_inside, read_class_folders, read_unlabelled
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

    Args:
        annotations: annotation file, or None to list the class folders ``videos/<class>/**/*.mp4``.
        videos: folder or URL that relative paths are joined with and ids are looked up in; may be None for path lists,
            whose relative paths then start at the working directory. Paths may be URLs, which are not looked up.
        labels: see `load_label_list`.
        num_classes: the model's number of classes; checks labels and lists. Without ``labels``, 400 and 600 stand for
            the Kinetics names if every name that occurs is one; otherwise classes are numbered by their sorted names.
        allow_outside_root: whether listed paths may lead out of ``videos`` (without it: the working directory). A list
            that somebody else wrote could name any file of this machine.
        encoding: of the annotation file and the labels; None: UTF-8.
        labels_start_at: number of the first class where labels are integers; None: see `number_labels`.
        subset: the subset to take of a list that names that of each row.
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
    listed = known_names(labels, num_classes, encoding)
    classes = Classes(listed, num_classes, labels_start_at)
    if videos is not None:
        check_video_root(videos)
    if annotations is None:
        if videos is None:
            raise ValueError("neither annotations nor videos is given; pass a list, a class-folder tree or both")
        folder = index_videos(videos, frame_folders=frame_folders, images=images, leave_out=output)
        if labelled is False or (labelled is None and not any("/" in path for path in folder.paths)):
            found = read_unlabelled(folder, listed.names if listed else None)
            shown = [f"{_UNLABELLED}: {videos} has no class folders"] if labelled is None else []
            return replace(found, notes=(*found.notes, *shown))
        return read_class_folders(folder, listed.names if listed else None, num_classes)
    lookup = Lookup(videos, frame_folders=frame_folders)
    if "*" in annotations and not os.path.exists(annotations):
        file, listing, sha256 = _read_hmdb_files(annotations, lookup, subset)
    else:
        if os.path.isdir(annotations):
            raise ValueError(
                f"annotation file {annotations!r} is a folder; pass a class-folder tree as videos alone, and the split "
                f"files of HMDB51 as {os.path.join(annotations, '*_test_split1.txt')!r}"
            )
        text, sha256 = read_text_file(annotations, "annotation file", encoding)
        file = ListFile(text, annotations, classes.names, lookup, subset)
        listing = _read(file)
    if not listing.videos:
        told = "".join(f"; {note}" for note in listing.notes)
        raise ValueError(f"annotation file {annotations!r} lists no video{told}")
    listed_videos, places = listing.videos, [file.place(video.line, listing.unit) for video in listing.videos]
    for video, place in zip(listed_videos, places, strict=True):
        if listing.find is None and not allow_outside_root and not is_inside(video.path, videos):
            raise ValueError(
                f"{place}: {video.path!r} leads out of {repr(videos) if videos else 'the working directory'}; pass the "
                "folder that holds all listed videos as videos, or, if you trust the list, allow_outside_root true"
            )
    indices: Sequence[int | None]
    if labelled is False:
        indices, names, notes = [None] * len(places), listed.names if listed else None, []
        others = [note for note in listing.notes if note != FOLDER_NOTE]
        if others == listing.notes:
            notes = [f"the labels of {annotations} are not read"]
        listing = replace(listing, notes=others)
    elif labelled is None and FOLDER_NOTE in listing.notes and not _are_classes(listed_videos, file):
        indices, names = [None] * len(places), listed.names if listed else None
        notes = [f"{_UNLABELLED}: the list has no column of labels, and the folders of its videos name no classes"]
        listing = replace(listing, notes=[note for note in listing.notes if note != FOLDER_NOTE])
    else:
        if FOLDER_NOTE in listing.notes:
            _check_folder_labels(listing, places, file, is_any_folder=listed is not None)
        indices, names, notes = number_labels(listed_videos, places, classes)
    listing = listing if listing.find is not None else _find_ids(listing, lookup)
    entries = _entries(listing, places, lookup, indices, names)
    changed = _describe_changes(listed_videos, entries, lookup) if listing.find is None else []
    if encoding is None and is_not_utf8(file.text):
        odd = next(number for number, line in file.lines() if is_not_utf8(line))
        notes.append(
            f"{file.place(odd)} is not UTF-8: its path is taken byte by byte (else pass --data.encoding latin-1)"
        )
    notes = list(dict.fromkeys((*listing.notes, *notes, *changed)))
    return VideoList(tuple(entries), names, annotations, listing.form, sha256, tuple(notes))


def _are_classes(videos: Sequence[ListedVideo], file: ListFile) -> bool:
    """Whether the folders of a list without labels look like classes: some are known, or none is and they differ."""
    folders = {video.label for video in videos}
    if file.known:
        return any(fold_label(folder) in file.known for folder in folders)
    return "" not in folders and len(folders) > 1


def _check_folder_labels(listing: Listing, places: Sequence[str], file: ListFile, *, is_any_folder: bool) -> None:
    """Raise ValueError where the folders of a list without labels cannot be the classes of its videos."""
    for video, place in zip(listing.videos, places, strict=True):
        if not video.label and listing.find is not None:
            raise ValueError(f"{file.source!r} has no label column; a list without labels (test set) cannot be scored")
        if not video.label:
            raise ValueError(
                f"{place}: {video.path[:80]!r} has no label, nor a folder that names its class; write 'path label' on "
                "each line"
            )
        one_label(place, video.label, file.known)
    if not is_any_folder and len({video.label for video in listing.videos}) == 1:
        raise ValueError(
            f"{places[0]} has no label, and all videos are in folder {listing.videos[0].label!r}, which says nothing; "
            "write 'path label' on each line"
        )


def _read(file: ListFile) -> Listing:
    """The list in the first form that fits; each reader returns None for a text of another form."""
    name = os.path.basename(file.source)
    if _HMDB_FILE.fullmatch(name):
        return _read_hmdb(file, [(name, file.text)])
    first = next((line for _, line in file.lines()), "")
    if _HEADERLESS_KINETICS_ROW.fullmatch(first) and not first.lower().startswith("label,"):
        columns = "label,youtube_id,time_start,time_end"
        raise ValueError(f"{file.source!r} looks like a Kinetics CSV without its header {columns}")
    if (listing := read_tar_list(file)) is not None:
        return listing
    listing = read_json_list(file) or read_table(file)
    if listing is not None:
        return listing
    if file.subset is not None:
        raise ValueError(f"data.subset {file.subset}: {file.source!r} does not say of which subset its rows are")
    return read_path_list(file)


def _entries(
    listing: Listing, places: Sequence[str], lookup: Lookup, indices: Sequence[int | None], names: Sequence[str] | None
) -> list[VideoEntry]:
    entries, listed_at = list[VideoEntry](), dict[str, str]()
    for video, place, label in zip(listing.videos, places, indices, strict=True):
        path, problem = join_path(lookup.root, video.path) + video.member, ""
        if listing.find is not None:
            path, problem = listing.find(video, names[label] if names and label is not None else video.label)
        elif not video.member and lookup.knows(video.path):
            found = lookup.find(video.path)
            if found is None:
                problem = "no such file"
            elif found.is_folder and not lookup.frame_folders:
                raise ValueError(
                    f"{place}: {video.path!r} is a folder; if it holds the frames of a video (img_00001.jpg, …), pass "
                    "--data.fps, the frames per second at which they were taken"
                )
            else:
                path, problem = found.path, found.problem
        # Two rows may be one file by what they say, or by what was found for them.
        for name in {os.path.normpath(video.key), os.path.normpath(path if listing.find is None else video.key)}:
            if (other := listed_at.setdefault(name, place)) != place:
                raise ValueError(f"{place}: {video.key!r} is already listed at {other}; every video counts once")
        entries.append(VideoEntry(video.key, path, label, problem, video.frames))
    return entries


def _find_ids(listing: Listing, lookup: Lookup) -> Listing:
    """The same list as one of ids, ``ID.*`` anywhere under the root, unless its paths are files."""
    videos, root = listing.videos, lookup.root
    if root is None or not all(_ID.fullmatch(video.path) and not video.member for video in videos):
        return listing
    if any((found := lookup.find(video.path)) is not None and not found.changed for video in videos):
        return listing
    folder = index_videos(root, frame_folders=lookup.frame_folders)
    if not any(video.path in folder.by_stem for video in videos):
        return listing

    def find(video: ListedVideo, class_name: str) -> tuple[str, str]:
        missing = os.path.join(root, video.key), f"no file {video.key}.* under {root}"
        return folder.find(video.key, class_name) or missing

    return replace(listing, form="id_label", find=find)


def _describe_changes(videos: Sequence[ListedVideo], entries: Sequence[VideoEntry], lookup: Lookup) -> list[str]:
    """How many paths were found under another name than listed, with an example."""
    notes, examples, counts = [], dict[str, str](), Counter[str]()
    for video, entry in zip(videos, entries, strict=True):
        found = None if video.member or entry.problem else lookup.find(video.path)
        if found is not None and found.changed:
            counts[found.changed] += 1
            examples.setdefault(found.changed, f"{video.path!r} is {found.path!r}")
    if counts["separator"]:
        notes.append(f"{counts['separator']} paths are written with \\ instead of /: {examples['separator']}")
    if counts["ending"]:
        notes.append(f"{counts['ending']} files have another ending than the list says: {examples['ending']}")
    return notes


def _read_hmdb_files(pattern: str, lookup: Lookup, subset: str | None) -> tuple[ListFile, Listing, str]:
    """The split files that a pattern names, as one list."""
    paths = sorted(glob.glob(pattern))
    if not paths:
        raise FileNotFoundError(f"annotation file {pattern!r}: no file fits this pattern")
    texts = [(os.path.basename(path), read_text_file(path, "annotation file")[0]) for path in paths]
    odd = next((name for name, _ in texts if not _HMDB_FILE.fullmatch(name)), None)
    if odd is not None:
        raise ValueError(
            f"annotation file {pattern!r}: several files are one list only where they are split files of HMDB51 "
            f"(CLASS_test_split1.txt), unlike {odd!r}"
        )
    file = ListFile("".join(text for _, text in texts), pattern, None, lookup, subset)
    return file, _read_hmdb(file, texts), hashlib.sha256(file.text.encode("utf-8", "surrogateescape")).hexdigest()


def _read_hmdb(file: ListFile, texts: Sequence[tuple[str, str]]) -> Listing:
    """HMDB51: a file for each class, with lines ``NAME.avi 1``, where 1 is training, 2 is testing, 0 is neither."""
    rows: list[tuple[int, Row]] = []
    for name, text in texts:
        match = _HMDB_FILE.fullmatch(name)
        assert match is not None
        for line, content in replace(file, text=text).lines():
            video, _, number = content.rpartition(" ")
            if number not in _HMDB_SUBSETS or not video.strip():
                raise ValueError(
                    f"{name!r} line {line}: {content[:80]!r} is not 'NAME.avi 1' as in HMDB51's split files (0, 1 or 2)"
                )
            rows.append((line, {"path": video.strip(), "label": match["label"], "subset": _HMDB_SUBSETS[number]}))
    chosen, notes = choose_subset(file, rows, "subset")
    if file.lookup.root is None:
        raise ValueError(f"{file.source!r} lists names; pass videos, the folder in which to look for their files")
    folder = index_videos(file.lookup.root, frame_folders=file.lookup.frame_folders)
    videos = [ListedVideo(line, f"{row['label']}/{row['path']}", row["label"], row["path"]) for line, row in chosen]

    def find(video: ListedVideo, class_name: str) -> tuple[str, str]:
        missing = os.path.join(folder.root, video.key), f"no file {video.path} under {folder.root}"
        return folder.find(os.path.splitext(video.path)[0], class_name) or missing

    return Listing("hmdb_split", videos, find, notes)
