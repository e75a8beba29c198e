"""Read a list of labelled videos: an annotation file in one of several forms, or a tree of class folders."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence

from video_ats.video.fetch import join_path
from video_ats.video.lists import ListedVideo, ListFile, Listing, VideoEntry, VideoList
from video_ats.video.lists.folders import check_video_root, index_videos, is_inside, read_class_folders
from video_ats.video.lists.label_names import built_in_names, known_names, number_labels, read_text_file
from video_ats.video.lists.path_lists import read_path_list
from video_ats.video.lists.tar_shards import read_tar_list

_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_HEADERLESS_KINETICS_ROW = re.compile(r".*,\s*[A-Za-z0-9_-]{11}\s*,\s*\d+\s*,\s*\d+\s*(?:,.*)?")


def read_video_list(
    *,
    annotations: str | None,
    videos: str | None,
    labels: str | None = None,
    num_classes: int | None = None,
    allow_outside_root: bool = False,
) -> VideoList:
    """Read an annotation file or a class-folder tree.

    The form of a file is recognised by its text:

    - The official Kinetics CSV, by a header with ``youtube_id``: ``label``, ``youtube_id``, ``time_start``,
      ``time_end`` (whole seconds) in any order. Its rows stand for the files ``ID_START_END.*`` (six digits each) or
      else ``ID.*`` under ``videos``.
    - Lists of videos in tar files, which ``video-ats index-tars`` writes.
    - Lists of ``path label`` or ``path frames label``, and of ids (Something-Something); see `read_path_list`.

    Args:
        annotations: annotation file (UTF-8), or None to list the class folders ``videos/<class>/**/*.mp4``.
        videos: folder or URL that relative paths are joined with and ids are looked up in; may be None for path lists,
            whose relative paths then start at the working directory. Paths may be URLs.
        labels: see `load_label_names`.
        num_classes: the model's number of classes; checks labels and lists. Without ``labels``, 400 and 600 stand for
            the Kinetics names if every name that occurs is one; otherwise classes are numbered by their sorted names.
        allow_outside_root: whether listed paths may lead out of ``videos`` (without it: the working directory). A list
            that somebody else wrote could name any file of this machine.

    Raises:
        FileNotFoundError: a named file or folder does not exist.
        ValueError: one line that says which line, which value, and what was expected.
    """
    names = known_names(labels, num_classes)
    if videos is not None:
        check_video_root(videos)
    if annotations is None:
        if videos is None:
            raise ValueError("neither annotations nor videos is given; pass a list, a class-folder tree or both")
        return read_class_folders(videos, names, num_classes)
    if os.path.isdir(annotations):
        raise ValueError(f"annotation file {annotations!r} is a folder; pass a class-folder tree as videos alone")
    text, sha256 = read_text_file(annotations, "annotation file")
    file = ListFile(text, annotations, videos, names or built_in_names(num_classes))
    # The first form that fits; each function returns None for a text of another form.
    listing = _read_kinetics_csv(file) or read_tar_list(file) or read_path_list(file)
    if not listing.videos:
        raise ValueError(f"annotation file {annotations!r} lists no video")
    places = [file.place(video.line) for video in listing.videos]
    for video, place in zip(listing.videos, places, strict=True):
        if listing.find is None and not allow_outside_root and not is_inside(video.path, videos):
            raise ValueError(
                f"{place}: {video.path!r} leads out of {repr(videos) if videos else 'the working directory'}; pass the "
                "folder that holds all listed videos as videos, or, if you trust the list, allow_outside_root true"
            )
    indices, names = number_labels([video.label for video in listing.videos], places, names, num_classes)
    entries, listed_at = [], dict[str, str]()
    for video, place, label in zip(listing.videos, places, indices, strict=True):
        other = listed_at.setdefault(os.path.normpath(join_path(videos, video.key)), place)
        if other != place:
            raise ValueError(f"{place}: {video.key!r} is already listed at {other}; every video counts once")
        path, problem = join_path(videos, video.path) + video.member, ""
        if listing.find is not None:
            path, problem = listing.find(video, names[label] if names else video.label)
        entries.append(VideoEntry(video.key, path, label, problem))
    return VideoList(tuple(entries), names, annotations, listing.form, sha256)


def _read_kinetics_csv(file: ListFile) -> Listing | None:
    first = file.text.lstrip().split("\n", 1)[0].strip()
    if "youtube_id" not in first.lower().replace('"', "").replace(" ", "").split(","):
        if _HEADERLESS_KINETICS_ROW.fullmatch(first):
            columns = ",".join(_KINETICS_COLUMNS)
            raise ValueError(f"{file.source!r} looks like a Kinetics CSV without its header {columns}")
        return None
    if file.root is None:
        raise ValueError(f"{file.source!r} lists YouTube ids; pass videos, the folder in which to look for their files")
    rows = [(line, [field.strip() for field in fields]) for line, fields in file.csv_rows(skipinitialspace=True)]
    (_, header), *rows = [(line, fields) for line, fields in rows if any(fields)]
    header = [column.lower() for column in header]
    missing = [column for column in _KINETICS_COLUMNS if column not in header]
    if "label" in missing:
        raise ValueError(f"{file.source!r} has no label column; a list without labels (test set) cannot be scored")
    if missing:
        raise ValueError(f"{file.source!r} has no column {missing[0]!r}; its columns are {', '.join(header)}")
    videos = [_kinetics_row(file, line, header, fields) for line, fields in rows]
    folder = index_videos(file.root)
    times_listed = Counter(video.path for video in videos)

    def find(video: ListedVideo, class_name: str) -> tuple[str, str]:
        exact = folder.find(video.key, class_name)
        if exact is not None:
            return exact
        plain = folder.find(video.path, class_name)
        if plain is None:
            expected = os.path.join(folder.root, f"{video.key}.mp4")
            return expected, f"no file {video.key}.* or {video.path}.* under {folder.root}"
        if (times := times_listed[video.path]) > 1:
            name = os.path.basename(plain[0])
            return plain[0], f"{name} may be any of the {times} clips of this id in the list; name it {video.key}.*"
        return plain

    return Listing("kinetics_csv", videos, find)


def _kinetics_row(file: ListFile, line: int, header: Sequence[str], fields: Sequence[str]) -> ListedVideo:
    place = file.place(line)
    if len(fields) != len(header):
        raise ValueError(
            f"{place} has {len(fields)} fields but the header has {len(header)} (a label with a comma needs quotes)"
        )
    values = dict(zip(header, fields, strict=True))
    label, youtube_id, start, end = (values[column] for column in _KINETICS_COLUMNS)
    if not label:
        raise ValueError(f"{place} has no label; every video needs one")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", youtube_id):
        raise ValueError(
            f"{place}: youtube_id {youtube_id!r} is not made of letters, digits, - and _ "
            "(spreadsheets spoil ids that start with -)"
        )
    if not re.fullmatch(r"[0-9]{1,9},[0-9]{1,9}", f"{start},{end}") or int(start) >= int(end):
        raise ValueError(
            f"{place}: time_start {start!r} and time_end {end!r} are not whole seconds with the start before the end"
        )
    return ListedVideo(line, f"{youtube_id}_{int(start):06d}_{int(end):06d}", label, path=youtube_id)
