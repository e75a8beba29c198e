"""Videos in tar files (WebDataset shards): write an index of where each lies, which is then read as a list.

Videos are read by byte range. The webdataset library streams shards in order and leaves broken samples out; here entry
i is always the same video, a run can continue at any entry, and each ends in a status.
"""

from __future__ import annotations

import csv
import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from video_ats.atomic import write_text
from video_ats.video.fetch import join_path, list_files, open_range, path_in_tar
from video_ats.video.lists import ListedVideo, ListFile, Listing
from video_ats.video.lists.label_names import clean_label
from video_ats.video.lists.lookup import is_video_name


@dataclass(frozen=True)
class IndexConfig:
    """Configuration of ``video-ats index-tars``.

    Attributes:
        videos: folder or URL under which the tar files lie, ``*.tar`` at any depth; pass it as --data.videos too.
        output: the list to write; an existing file is not overwritten.
    """

    videos: str
    output: str

    def check_output(self) -> None:
        """Raise if the list exists."""
        if Path(self.output).exists():
            raise ValueError(f"output {self.output}: exists already; remove it, or choose another")


class TarMember(NamedTuple):
    """One video: its tar file under the root, offset and size of its bytes, its name in the tar file, and its label."""

    tar: str
    offset: int
    size: int
    name: str
    label: str


_COLUMNS = ",".join(TarMember._fields)


def find_tars(root: str) -> list[str]:
    """The tar files under a folder or URL, relative to it, sorted; ValueError where there are none."""
    found = [path for path in list_files(root) if path.endswith(".tar")]
    if not found:
        raise ValueError(f"videos {root}: holds no .tar file")
    return found


def index_tar(root: str, tar: str) -> list[TarMember]:
    """The videos of an uncompressed tar file under ``root``, in its order.

    Only headers and ``.cls`` files are read. The label of ``a/b.mp4`` is the text of ``a/b.cls``, if that exists;
    otherwise the folder ``a``.
    """
    path = join_path(root, tar)
    try:
        with open_range(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            members = [member for member in archive.getmembers() if member.isreg() and not member.issparse()]
            labels = {}
            for member in members:
                if member.name.endswith(".cls"):
                    text = archive.extractfile(member)
                    assert text is not None
                    labels[_key(member.name)] = clean_label(text.read().decode("utf-8", "surrogateescape"))
    except tarfile.TarError as error:
        raise ValueError(f"{path}: is not an uncompressed tar file ({error})") from None
    found = []
    for member in members:
        if is_video_name(os.path.basename(member.name)):
            label = labels.get(_key(member.name)) or os.path.basename(os.path.dirname(member.name))
            if not label:
                raise ValueError(f"{path}: {member.name!r} has neither a .cls file nor a folder that names its class")
            found.append(TarMember(tar, member.offset_data, member.size, member.name, label))
    if not found:
        raise ValueError(f"{path}: holds no video")
    return found


def as_tar_list(members: Sequence[TarMember]) -> str:
    """The text of the list that `read_tar_list` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TarMember._fields)
    writer.writerows(members)
    return text.getvalue()


def write_tar_list(config: IndexConfig) -> tuple[int, int]:
    """Index all tar files of a configuration and write the list; returns the numbers of videos and of tar files."""
    output = Path(config.output)
    config.check_output()
    tars = find_tars(config.videos)
    members = [member for tar in tars for member in index_tar(config.videos, tar)]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, as_tar_list(members))
    return len(members), len(tars)


def read_tar_list(file: ListFile) -> Listing | None:
    """Read a list that `as_tar_list` wrote; None for a text of another form."""
    if file.text.split("\n", 1)[0].strip() != _COLUMNS:
        return None
    videos = []
    for line, fields in islice(file.csv_rows(), 1, None):
        if len(fields) != len(TarMember._fields) or not all(fields) or not (fields[1] + fields[2]).isdecimal():
            raise ValueError(f"{file.place(line)}: is not {_COLUMNS}; index the tar files again")
        tar, offset, size, name, label = fields
        member = path_in_tar("", int(offset), int(size), name)
        videos.append(ListedVideo(file.place(line), f"{tar}/{name}", label, tar, member))
    return Listing("tar_members", videos)


def _key(name: str) -> str:
    """The name that the files of one sample share, by WebDataset's rule: up to the first dot of the file name."""
    folder, base = os.path.split(name)
    return os.path.join(folder, base.split(".", 1)[0])
