"""The videos at either end of the costs are drawn, and their pictures show what the model keeps."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.evaluation_cases import ATS, failed, results_of, scored, write_clip
from PIL import Image

from video_ats import create_model, insert_samplers_
from video_ats.evaluation.html_report import _cost_ends, draw_pictures
from video_ats.evaluation.summary import Results
from video_ats.runs.execution import Execution
from video_ats.runs.settings import Setting
from video_ats.tokens import SamplerConfig
from video_ats.video.dataset import VideoDataset
from video_ats.video.lists import VideoEntry
from video_ats.video.source import DataConfig
from video_ats.video.views import ViewPlan
from video_ats.visualize.pictures import draw_patches

PLAN = ViewPlan("timesformer", num_frames=8, frame_stride=1, crop_size=96, crops=1)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[VideoEntry]:
    folder = tmp_path_factory.mktemp("videos")
    paths = [
        write_clip(folder / f"{name}.mp4", seed=seed, height=100, width=128) for seed, name in enumerate("abcdefgh")
    ]
    return [VideoEntry(key=path.name, path=str(path), label=0) for path in paths]


def results(entries: list[VideoEntry], count: int = 8) -> Results:
    order = [3, 0, 7, 1, 6, 2, 5, 4][:count]
    lines = [scored(entries[n].key, 0, ATS.name, [0], macs=[n + 1]) for n in order]
    return results_of([failed("gone", 0), *lines], [ATS])


def drawn(entries: list[VideoEntry], count: int = 8, setting: Setting = ATS) -> dict[str, str]:
    torch.manual_seed(0)
    model = create_model("timesformer_mini", num_classes=2)
    execution = Execution(torch.device("cpu"))
    data = DataConfig(num_workers=0)
    pictures = draw_pictures(model, setting, results(entries, count), entries, data, PLAN, execution)
    assert all(block.sampler is None for block in model.blocks)
    return pictures.kept


def names(entries: list[VideoEntry], count: int) -> list[list[str]]:
    found = results(entries, count)
    return [[found.videos[row] for row in rows] for rows in _cost_ends(found, ATS)]


def test_three_at_either_end_and_none_twice(entries: list[VideoEntry]) -> None:
    assert names(entries, 8) == [["a.mp4", "b.mp4", "c.mp4"], ["h.mp4", "g.mp4", "f.mp4"]]
    assert names(entries, 3) == [["a.mp4", "d.mp4"], ["h.mp4"]]
    assert names(entries, 1) == [["d.mp4"], []]
    assert sorted(drawn(entries)) == ["a.mp4", "b.mp4", "c.mp4", "f.mp4", "g.mp4", "h.mp4"]


def test_a_video_that_is_gone_has_no_picture(entries: list[VideoEntry], tmp_path: Path) -> None:
    gone = [
        VideoEntry(key=e.key, path=e.path if e.key != "d.mp4" else str(tmp_path / "no.mp4"), label=0) for e in entries
    ]
    assert drawn(gone, count=1) == {}


@pytest.mark.parametrize("sampler", [ATS.sampler, SamplerConfig("similar", "tube", samples=[90, 60], blocks=[1, 2])])
def test_the_picture_shows_what_the_last_block_keeps(entries: list[VideoEntry], sampler: SamplerConfig) -> None:
    (uri,) = drawn(entries, count=1, setting=replace(ATS, sampler=sampler)).values()
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))), dtype=float)

    sample = VideoDataset(entries, PLAN)[3]
    views = sample.views(PLAN)
    torch.manual_seed(0)
    model = insert_samplers_(create_model("timesformer_mini", num_classes=2), sampler)
    trace = model(views, return_trace=True)[1]
    kept = trace.kept[-1][0, 7].numpy()
    frame = ((views[0, :, 7] * 0.225 + 0.45).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    places = np.arange(160) * 96 // 96 * 96 // 160
    enlarged = frame[places][:, places]
    tile = draw_patches(enlarged[None], trace.tokens_of_patches(-1)[0, 7:].numpy())[0].astype(float)
    # The last tile of the lower row stands somewhere near the lower right corner.
    distances = [
        np.abs(picture[y : y + 160, x : x + 160] - tile).mean()
        for y in range(picture.shape[0] - 205, picture.shape[0] - 159)
        for x in range(picture.shape[1] - 185, picture.shape[1] - 159)
    ]
    assert min(distances) < 4  # JPEG
    assert 0 < kept.sum() < kept.size
