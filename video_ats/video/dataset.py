"""Listed videos as a data set of torch."""

from __future__ import annotations

from collections.abc import Sequence

from torch.utils.data import Dataset

from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig, VideoSample
from video_ats.video.views import ViewPlan


class VideoDataset(Dataset[VideoSample]):
    """Listed videos in list order: item i is entry i, read with ``data``; without a plan it is only counted.

    A video that fails is a sample that says so. It is never raised, dropped or replaced by another video, since an
    accuracy would then be over other videos than the listed ones. Files are opened in ``__getitem__`` only, and so in
    the worker process.
    """

    def __init__(self, entries: Sequence[VideoEntry], plan: ViewPlan | None, data: DataConfig | None = None) -> None:
        self.entries = tuple(entries)
        self.plan = plan
        self.data = data or DataConfig()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> VideoSample:
        return self.data.read(self.entries[index], None if self.plan is None else self.plan.frame_indices)
