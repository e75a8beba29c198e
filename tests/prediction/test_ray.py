"""`Predictor` under Ray Data: the rows of the command, also when one of two actors is killed."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.documents import DOCUMENTS, blocks_of

from video_ats.mini_kinetics.drawing import draw_clip
from video_ats.prediction.configuration import PredictConfig
from video_ats.prediction.job import prepare, run
from video_ats.prediction.predictor import Predictor
from video_ats.prediction.rows import read_videos_rows
from video_ats.video.encode import write_video
from video_ats.video.source import DataConfig

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
parquet = pytest.importorskip("pyarrow.parquet")
# Ray Data warns of its own defaults.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The folder that its processes are started in."""
    folder = tmp_path_factory.mktemp("cluster")
    # Ray's workers give way to other processes; beside the tests of another process they would hardly run.
    own_priority = {"worker_niceness": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=100_000_000,
            _system_config=own_priority,
        )
    yield folder
    ray.shutdown()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Five clips, one file that is no video, one that is not there."""
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(["moving left", "moving right", "growing", "shaking", "moving up"]):
        clip = draw_clip(name, np.random.default_rng(number))
        write_video(folder / f"{number}.mp4", clip.frames[:60], frame_rate=clip.frame_rate)
    (folder / "damaged.mp4").write_bytes(b"no video")
    return [*map(str, sorted(folder.iterdir())), str(folder / "missing.mp4")]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Those of all Parquet files of a folder, in the order of their paths."""
    rows = [row for path in folder.glob("*.parquet") for row in parquet.ParquetFile(path).read().to_pylist()]
    return sorted(rows, key=lambda row: row["path"])


def test_two_actors_of_which_one_is_killed_give_the_same_rows(cluster, videos, tmp_path):
    class KilledOnce(Predictor):
        """Its process dies at one video, the first time that it comes to it."""

        def __call__(self, batch):
            flag = tmp_path / "killed"
            if any(path.endswith("2.mp4") for path in batch["path"]) and not flag.exists():
                flag.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(batch)

    config = PredictConfig(device="cpu", embeddings=True, data=DataConfig(num_workers=0))
    rows = ray.data.from_items([{"path": path} for path in videos], override_num_blocks=len(videos))
    rows = rows.map_batches(KilledOnce, fn_constructor_args=(config,), batch_size=1, concurrency=2, num_cpus=1)
    rows.write_parquet(str(tmp_path / "rows"))

    assert int((tmp_path / "killed").read_text()) != os.getpid()
    found = rows_of(tmp_path / "rows")
    listed = tmp_path / "list.txt"  # on a command line, a missing file is an error at once
    listed.write_text("".join(f"{path}\n" for path in sorted(videos)))
    command = replace(config, videos=[str(listed)], output=str(tmp_path / "out"))
    command = replace(command, data=replace(config.data, videos=str(Path(videos[0]).parent)))
    run(prepare(command), say=lambda _: None)
    alone = [row for rows in read_videos_rows(tmp_path / "out" / "predictions.jsonl") for row in rows]
    assert [row["path"] for row in found] == [row.video for row in alone] == sorted(videos)
    assert [row["label"] for row in found] == [row.classes[0] if row.is_ok else "" for row in alone]
    assert [(row["status"], row["reason"]) for row in found] == [(row.status, row.reason) for row in alone]
    assert [row["status"] for row in found].count("ok") == 5
    for row, same in zip(found, alone, strict=True):
        if same.is_ok:
            assert (row["gflops"], row["tokens_kept"]) == pytest.approx((same.gflops, same.tokens_kept))
            assert row["probability"] == pytest.approx(same.probabilities[0], rel=1e-4)
            np.testing.assert_allclose(row["embedding"], same.vector(), rtol=1e-4, atol=1e-5)
        else:
            assert np.isnan([row["gflops"], row["tokens_kept"], row["probability"], *row["embedding"]]).all()


def test_the_code_of_the_documents(cluster, videos, monkeypatch):
    """In the cluster that is up; one of its two actors is enough for two videos."""
    (block,) = (block for path in DOCUMENTS for block in blocks_of(path) if block.first == "import ray")
    monkeypatch.chdir(cluster)
    for video, name in zip(videos[:2], ("one.mp4", "two.mp4"), strict=True):
        shutil.copy(video, name)
    done, usual = [], ray.data.Dataset.map_batches
    monkeypatch.setattr(ray, "init", lambda **options: done.append(options))
    monkeypatch.setattr(ray, "shutdown", lambda: done.append("shut down"))
    monkeypatch.setattr(
        ray.data.Dataset, "map_batches", lambda *given, **options: usual(*given, **{**options, "concurrency": 1})
    )
    exec(compile(block.text, block.document, "exec"), {})  # noqa: S102 (our own text)
    assert done == [{"num_cpus": 2}, "shut down"]
    rows = rows_of(cluster / "outputs" / "rows")
    assert [(row["path"], row["status"]) for row in rows] == [("one.mp4", "ok"), ("two.mp4", "ok")]
