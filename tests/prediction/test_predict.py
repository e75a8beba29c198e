"""Whole runs of ``video-ats predict``: mixtures of inputs, windows, damage, kills, embeddings, a batch of paths."""

import csv
import json
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.broken_decoders import crash
from helpers.drawn_videos import synthetic_clip
from helpers.less_work import use_small_crops
from PIL import Image
from safetensors.numpy import load_file

from video_ats.models.features import forward_features, forward_head
from video_ats.models.insert import sampling
from video_ats.prediction import predictor
from video_ats.prediction.configuration import PredictConfig
from video_ats.prediction.job import prepare, run
from video_ats.prediction.predictor import Predictor
from video_ats.prediction.report import Summary, segments, summary_blocks
from video_ats.prediction.rows import Row
from video_ats.runs.options import StopConfig, ViewsConfig
from video_ats.tokens import SamplerConfig
from video_ats.video import VideoStatus
from video_ats.video.decoders import read_frames
from video_ats.video.decoders.windows import VideoWindow, read_every
from video_ats.video.encode import write_video
from video_ats.video.lists.given import list_given
from video_ats.video.source import DataConfig
from video_ats.video.transforms import make_views
from video_ats.video.views import ViewPlan
from video_ats.video.window_stream import Failure

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "videos"
SAMPLED = SamplerConfig(samples=16)


def draw(path: Path, frames: int = 40, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, synthetic_clip(label=1, seed=seed, num_frames=frames, height=48, width=64), frame_rate=30)
    return path


def draw_cut(path: Path, frames: int) -> Path:
    """A file whose header stands at its front, and whose end is gone."""
    clip = synthetic_clip(label=1, seed=0, num_frames=frames, height=48, width=64)
    write_video(path, clip, frame_rate=30, muxer_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    return path


def config(folder: Path, *videos: Path | str, **changes: Any) -> PredictConfig:
    usual = {"output": str(folder / "out"), "device": "cpu"}
    return PredictConfig(videos=[str(video) for video in videos], **{**usual, **changes})


def predict(folder: Path, *videos: Path | str, **changes: Any) -> Summary:
    said: list[str] = []
    summary, _ = run(prepare(config(folder, *videos, **changes)), said.append)
    return summary


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "out" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_any_mixture_of_inputs_gives_each_video_once_and_one_status(tmp_path: Path) -> None:
    one, two, three = (draw(tmp_path / name, seed=i) for i, name in enumerate(["a.mp4", "in/b.mp4", "in/deep/c.mp4"]))
    for number in range(1, 9):
        frames = tmp_path / "taken" / f"img_{number:05}.png"
        frames.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (number, 0, 0)).save(frames)
    (tmp_path / "in" / "broken.mp4").write_bytes(b"no video")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{two}\n{tmp_path}/gone.mp4\n")
    data = DataConfig(fps=10, allow_outside_root=True)
    words = (one, tmp_path / "in", f"{tmp_path}/*.mp4", listed, f"file://{three}", tmp_path / "taken")
    summary = predict(tmp_path, *words, data=data)
    assert summary.statuses == {"ok": 5, "unreadable": 1, "missing": 1}
    rows = table(tmp_path, "predictions.csv")
    assert [row["video"] for row in rows if row["rank"] in ("1", "")] == [
        *(str(one), str(tmp_path / "in/b.mp4"), str(tmp_path / "in/broken.mp4"), str(three)),
        *(str(tmp_path / "gone.mp4"), f"file://{three}", str(tmp_path / "taken")),
    ]
    assert {row["reason"] for row in rows if row["status"] == "missing"} == {"no such file"}
    assert [row["rank"] for row in rows[:6]] == ["1", "2", "3", "4", "5", "1"]


def test_lists_with_labels_are_read_and_their_labels_are_not_used(tmp_path: Path, monkeypatch: Any) -> None:
    draw(tmp_path / "a.mp4")
    monkeypatch.chdir(tmp_path)
    for name, text in (("one.txt", "a.mp4 17\n"), ("two.csv", "path,label\na.mp4,odd class\n")):
        Path(name).write_text(text)
        found = list_given([name], DataConfig())
        assert [entry.path for entry in found.entries] == ["a.mp4"]
        assert f"the labels of {name} are not read" in found.notes
    for name, text in (("three.txt", "a.mp4\n"), ("four.csv", "path\na.mp4\n")):
        Path(name).write_text(text)
        found = list_given([name], DataConfig())
        assert [entry.path for entry in found.entries] == ["a.mp4"]
        assert not found.notes


@pytest.mark.parametrize(
    ("words", "told"),
    [([], "videos: none given"), (["gone.mp4"], "'gone.mp4': no such file"), (["gone/*.mp4"], "no file fits")],
)
def test_what_is_not_there_is_refused_at_once(words: list[str], told: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        list_given(words, DataConfig())


def test_images_of_a_tree_are_videos_where_that_is_asked_for(tmp_path: Path) -> None:
    names = [f"{kind}/{number}.png" for kind in ("a", "b") for number in (1, 2)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    with pytest.raises(
        ValueError, match=r"no video.*4 \.png; .* --data\.fps 25, each image one with --data\.images true$"
    ):
        list_given([str(tmp_path)], DataConfig())
    for given in ([str(tmp_path)], [f"{tmp_path}/*/*.png"], [f"file://{tmp_path}"]):
        found = list_given(given, DataConfig(images=True))
        assert [entry.path.removeprefix("file://")[len(f"{tmp_path}/") :] for entry in found.entries] == names
    folders = list_given([str(tmp_path)], DataConfig(fps=5))
    assert [entry.path for entry in folders.entries] == [f"{tmp_path}/{name}" for name in ("a", "b")]
    assert predict(tmp_path, tmp_path / "a", data=DataConfig(images=True)).statuses == {"ok": 2}


def test_files_of_a_pattern_that_are_no_videos_are_counted(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.txt", "c.md"):
        (tmp_path / name).write_bytes(b"")
    found = list_given([f"{tmp_path}/*"], DataConfig())
    assert [entry.path for entry in found.entries] == [f"{tmp_path}/a.mp4"]
    assert found.notes == (f"not taken for videos of {tmp_path}/*: 2 files",)
    with pytest.raises(ValueError, match="2 files fit this pattern, none of them is a video"):
        list_given([f"{tmp_path}/[bc]*"], DataConfig())


def test_windows_have_the_frames_of_their_times_and_cover_the_whole_video(tmp_path: Path) -> None:
    path = str(draw(tmp_path / "a.mp4", frames=100))
    plan = ViewPlan("timesformer", num_frames=4, frame_stride=8, crop_size=32, crops=1)  # 32 frames at 30 fps
    every = Fraction(1, 2)
    found = list(read_every(path, plan, every))
    assert [window.start for window in found] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]  # the last one is cut by the end
    whole = read_frames(path, lambda count, _: range(count)).frames
    for number, window in enumerate(found):
        numbers = np.minimum(np.floor(15 * number + np.arange(4) * 31 / 3), 99).astype(int)
        assert torch.equal(window.frames, whole[numbers])
        assert window.end == pytest.approx((numbers[-1] + 1) / 30)
    back_to_back = list(read_every(path, plan, plan.seconds))
    assert [window.end for window in back_to_back] == pytest.approx([32 / 30, 64 / 30, 96 / 30, 100 / 30])
    assert [window.start for window in read_every(path, plan, Fraction(2))] == [0.0, 2.0]
    # frame 106 is the last of the window at 2.5 s: none that begins later is needed
    exact = str(draw(tmp_path / "b.mp4", frames=107))
    assert [window.start for window in read_every(exact, plan, every)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


def test_a_damaged_middle_gives_the_windows_before_it_and_a_status(tmp_path: Path) -> None:
    summary = predict(tmp_path, draw(tmp_path / "a.mkv", frames=200), draw_cut(tmp_path / "c.mp4", 200), every=1.0)
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    first, second = ([row for row in rows if row["video"] == str(tmp_path / name)] for name in ("a.mkv", "c.mp4"))
    assert [row["start"] for row in first] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert {row["status"] for row in first} == {"ok"}
    assert second[-1]["status"] in ("unreadable", "truncated")
    assert second[-1]["top5"] == []
    assert 0 < len(second) - 1 < len(first)
    for one, other in zip(first, second[:-1], strict=False):
        assert (other["status"], other["start"], other["last"]) == ("ok", one["start"], False)
    assert summary.statuses == {"ok": 1, second[-1]["status"]: 1}
    assert (tmp_path / "out" / "over_time" / "a.png").stat().st_size > 1000


def test_a_decoder_that_crashes_costs_the_rest_of_its_video(tmp_path: Path, monkeypatch: Any) -> None:
    def breaking(path: str, *arguments: Any, **options: Any) -> Iterator[VideoWindow]:
        for number, window in enumerate(read_every(path, *arguments, **options)):
            if number == 2 and "broken" in path:
                crash("killed")
            yield window

    monkeypatch.setattr(predictor, "read_every", breaking)
    paths = [draw(tmp_path / f"{name}.mp4", frames=150) for name in ("a", "broken", "c")]
    summary = predict(tmp_path, *paths, every=1.0)
    assert summary.statuses == {"ok": 2, "crashed": 1}
    rows = [row for row in table(tmp_path, "predictions.csv") if row["rank"] in ("1", "")]
    assert [(row["start"], row["status"]) for row in rows if row["video"] == str(paths[1])] == [
        *(("0.000", "ok"), ("1.000", "ok"), ("", "crashed")),
    ]
    monkeypatch.undo()
    assert predict(tmp_path, *paths, every=1.0).statuses == {"ok": 2, "crashed": 1}
    assert predict(tmp_path, *paths, every=1.0, retry_lost=True).statuses == {"ok": 3}


def test_a_killed_run_that_continues_writes_the_same_files(tmp_path: Path) -> None:
    paths = [draw(tmp_path / f"{name}.mp4", frames=90, seed=seed) for seed, name in enumerate("abcd")]
    changes: dict[str, Any] = {"every": 1.0, "sampler": SAMPLED, "compare": "dense", "embeddings": True}
    whole = tmp_path / "whole"
    predict(whole, *paths, **changes)
    killed = tmp_path / "killed"
    job = prepare(config(killed, *paths, **changes))
    usual = job.predictor.predict

    def stopped(*given: Any) -> Iterator[list[Row]]:
        for number, rows in enumerate(usual(*given)):
            if number == 2:
                raise KeyboardInterrupt
            yield rows

    job.predictor.predict = stopped  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run(job, lambda _: None)
    log = killed / "out" / "predictions.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])  # the second video was cut while it was written
    predict(killed, *paths, **changes)
    names = ["predictions.jsonl", "predictions.csv", "segments.csv", "embeddings.csv", "embeddings.safetensors"]
    for name in names:
        assert (killed / "out" / name).read_bytes() == (whole / "out" / name).read_bytes(), name
    with pytest.raises(ValueError, match="holds a run with other settings"):
        predict(killed, *paths, **{**changes, "every": 2.0})


def test_a_killed_hour_continues_after_its_last_whole_batch(tmp_path: Path, monkeypatch: Any) -> None:
    paths = [draw(tmp_path / "a.mp4", frames=30), draw(tmp_path / "long.mp4", frames=230)]
    changes: dict[str, Any] = {"every": 0.5, "sampler": SAMPLED, "embeddings": True, "batch_size": 4}
    predict(tmp_path / "whole", *paths, **changes)
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    log = tmp_path / "killed" / "out" / "predictions.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    windows = sum(b"long.mp4" in line for line in lines)
    assert windows > 12
    scored: list[float] = []
    usual = Predictor.score_windows

    def counted(self: Predictor, entry: Any, windows: Any) -> list[Row]:
        scored.extend(window.start for window in windows)
        return usual(self, entry, windows)

    monkeypatch.setattr(Predictor, "score_windows", counted)
    first = len(lines) - windows
    log.write_bytes(b"".join(lines[: first + 10]) + lines[first + 10][:30])  # 10 windows and a part of one more
    predict(tmp_path / "killed", *paths, **changes)
    assert scored == [0.5 * number for number in range(8, windows)]
    for name in ("predictions.jsonl", "predictions.csv", "segments.csv", "embeddings.csv", "embeddings.safetensors"):
        assert (log.parent / name).read_bytes() == (tmp_path / "whole" / "out" / name).read_bytes(), name
    # Killed again while it reads up to its place: what was there is there.
    log.write_bytes(b"".join(lines[: first + 10]))
    job = prepare(config(tmp_path / "killed", *paths, **changes))
    monkeypatch.setattr(predictor, "stream_windows", lambda *_: iter([Failure(VideoStatus.CRASHED, "killed")]))
    run(job, lambda _: None)
    rows = [json.loads(line) for line in log.read_bytes().splitlines()][first:]
    assert [row["status"] for row in rows] == ["ok"] * 8 + ["crashed"]
    assert [row["last"] for row in rows] == [False] * 8 + [True]


def test_predictions_and_embeddings_are_those_of_the_model(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.mp4")
    predict(tmp_path, path, embeddings=True, sampler=SAMPLED, compare="dense")
    made = Predictor(config(tmp_path, sampler="dense"))
    model, plan = made.given.model, made.plan
    read = read_frames(str(path), lambda count, rate: plan.frame_indices(count, rate).ravel())
    views = make_views(read.frames, np.searchsorted(read.indices, plan.frame_indices(40, Fraction(30))), plan)
    with torch.inference_mode():
        dense = model(views).mean(dim=0)
        with sampling(model, SAMPLED):
            features = forward_features(model, views)
            logits, embedding = forward_head(model, features), forward_head(model, features, pre_logits=True)
    values, places = logits.mean(dim=0).softmax(dim=0).topk(5)
    (row,) = (json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines())
    assert row["top5"] == places.tolist()
    assert row["probabilities"] == pytest.approx(values.tolist(), rel=1e-4)
    assert row["agrees"] is bool(dense.argmax() == places[0])
    assert row["classes"][0] == made.label_names[places[0]]
    written = load_file(tmp_path / "out" / "embeddings.safetensors")["embeddings"]
    np.testing.assert_allclose(written, embedding.mean(dim=0, keepdim=True).numpy(), rtol=1e-4, atol=1e-5)
    assert [one["video"] for one in table(tmp_path, "embeddings.csv")] == [str(path)]


def test_a_video_or_a_window_takes_no_more_views_once_it_is_sure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_small_crops(monkeypatch)
    paths = [draw(tmp_path / f"{seed}.mp4", seed=seed) for seed in range(4)]
    for every in (None, 1.0):
        plain = {"sampler": SAMPLED, "every": every, "views": ViewsConfig(crops=3), "embeddings": True}
        unstopped = Predictor(config(tmp_path, **plain))
        model, plan = unstopped.given.model, unstopped.plan
        wanted = []  # of each video: its views, and the mean logits after one, two and three of them, centre first
        for path in paths:
            read = read_frames(str(path), lambda count, rate, plan=plan: plan.frame_indices(count, rate).ravel())
            positions = np.searchsorted(read.indices, plan.frame_indices(40, Fraction(30)))
            if every is not None:  # the first window has the first frames
                window = next(iter(read_every(str(path), plan, Fraction(1))))
                read, positions = window, torch.arange(plan.num_frames)[None]
            with torch.inference_mode(), sampling(model, SAMPLED):
                logits = torch.cat([model(view[None]) for view in make_views(read.frames, positions, plan)])
            wanted.append([logits[order].mean(dim=0).softmax(dim=0) for order in ([1], [0, 1], [0, 1, 2])])
        sureness = torch.tensor([[float(shares.max()) for shares in of_video] for of_video in wanted])
        confidence = float(sureness[:, 0].sort().values[1:3].mean())  # two of four need one view
        listed = {"path": np.array(list(map(str, paths)))}
        every_view = unstopped(listed)
        for stop, sure in ((StopConfig(confidence), sureness > confidence), (StopConfig(1.5), sureness > 1)):
            columns = Predictor(config(tmp_path, **plain, stop=stop, compare="dense"))(listed)
            firsts = [list(columns["path"]).index(str(path)) for path in paths]
            counts = [next((n for n in (1, 2) if of_video[n - 1]), 3) for of_video in sure.tolist()]
            assert columns["views"][firsts].tolist() == counts
            best = [float(of_video[count - 1].max()) for of_video, count in zip(wanted, counts, strict=True)]
            assert columns["probability"][firsts].tolist() == pytest.approx(best, rel=1e-4)
            share = columns["gflops"][firsts] / every_view["gflops"][firsts]
            np.testing.assert_allclose(share, np.array(counts) / 3, rtol=0.1)
            if stop.confidence > 1:
                assert counts == [3] * 4
                for name in ("probability", "gflops", "tokens_kept", "embedding", "label"):
                    np.testing.assert_array_equal(columns[name], every_view[name])
            else:
                assert counts.count(1) == 2


def test_stopping_is_told_in_the_table_and_the_summary(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.mp4")
    summary = predict(tmp_path, path, stop=StopConfig(0.01), compare="dense")
    assert (summary.setting, summary.views) == ("dense-stop0.01", 1)
    assert "GFLOPs a prediction from 1.00 views" in "\n".join(map(str, summary_blocks(summary)))
    assert {row["views"] for row in table(tmp_path, "predictions.csv")} == {"1"}
    with pytest.raises(ValueError, match=r"^stop\.confidence 0\.9: there is one view"):
        Predictor(config(tmp_path, stop=StopConfig(0.9), every=1.0))


def test_a_batch_of_paths_gives_columns_with_the_rows_of_a_run(tmp_path: Path) -> None:
    paths = [draw(tmp_path / "a.mp4", frames=70), tmp_path / "gone.mp4"]
    made = Predictor(config(tmp_path, embeddings=True, every=1.0, sampler=SAMPLED, compare="dense"))
    columns = made({"path": np.array([str(path) for path in paths])})
    assert {name: len(column) for name, column in columns.items()} == dict.fromkeys(columns, 3)
    assert columns["path"].tolist() == [str(paths[0])] * 2 + [str(paths[1])]
    assert columns["status"].tolist() == ["ok"] * 2 + ["missing"]
    assert columns["reason"].tolist()[-1] == "no such file"
    assert columns["start"].tolist()[:2] == [0.0, 1.0]
    assert np.isnan(columns["start"][2])
    assert np.isnan(columns["embedding"][2]).all()
    predict(tmp_path, paths[0], embeddings=True, every=1.0, sampler=SAMPLED, compare="dense")
    np.testing.assert_array_equal(
        columns["embedding"][:2], load_file(tmp_path / "out" / "embeddings.safetensors")["embeddings"]
    )
    best = [row for row in table(tmp_path, "predictions.csv") if row["rank"] == "1"]
    assert columns["label"].tolist()[:2] == [row["class"] for row in best]
    assert [f"{value:.6f}" for value in columns["probability"][:2]] == [row["probability"] for row in best]


def test_the_sampler_is_that_of_the_model_or_none(tmp_path: Path) -> None:
    def names(**changes: Any) -> list[str]:
        return [setting.name for setting in Predictor(config(tmp_path, **changes)).settings]

    assert names() == ["dense"]
    assert names(sampler=SAMPLED, compare="dense") == ["ats-frame-k16", "dense"]
    assert names(model="timesformer_mini_ats") == ["ats-frame-kfull"]
    assert names(model="timesformer_mini_ats", sampler="dense") == ["dense"]
    with pytest.raises(ValueError, match="there is no sampler to compare with"):
        names(compare="dense")


def test_neighbouring_windows_of_one_class_are_a_segment() -> None:
    def row(start: float, best: int, probability: float) -> Row:
        spans = {"start": start, "end": start + 3}
        return Row("v", "ok", top5=[best], classes=[f"class {best}"], probabilities=[probability], **spans)

    rows = [row(0, 1, 0.5), row(2, 1, 0.7), row(4, 2, 0.9), row(6, 1, 0.4), Row("v", "truncated", "cut")]
    found = [(one.start, one.end, one.name, one.windows) for one in segments(rows)]
    assert found == [(0, 4, "class 1", 2), (4, 6, "class 2", 1), (6, 9, "class 1", 1)]
    assert segments(rows)[0].probability == pytest.approx(0.6)


@pytest.mark.skipif(not REAL.is_dir(), reason="no folder shared/videos beside the checkout")
@pytest.mark.parametrize("every", [None, 2.0])
def test_every_real_clip_ends_in_one_status(tmp_path: Path, every: float | None) -> None:
    names = ["R6llTwEh07w.mp4", "audio_only.wav", "corrupted.mp4", "unordered.mov", "vfr_1080p.mp4", "video_90.mov"]
    summary = predict(tmp_path, *(REAL / name for name in names), every=every)
    assert summary.statuses == {"ok": 4, "no_video": 1, "unreadable": 1}
