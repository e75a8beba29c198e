"""A model that predicts videos: rows for listed videos, or columns for a batch of paths. It writes no files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property, partial
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from video_ats.prediction.configuration import PredictConfig
from video_ats.prediction.rows import Row, encoded
from video_ats.runs.execution import Execution, open_device
from video_ats.runs.files import file_bytes
from video_ats.runs.forward import SettingOutput, check_finite, combine_views, run_settings
from video_ats.runs.options import check_samplers, fill_in, plan_views
from video_ats.runs.settings import Setting, setting_name
from video_ats.runs.weights import choose_or_usual, class_names, load_model
from video_ats.video import VideoStatus
from video_ats.video.decoders.windows import VideoWindow, read_every
from video_ats.video.fetch import FetchLimits
from video_ats.video.lists import VideoEntry
from video_ats.video.source import read_videos
from video_ats.video.transforms import make_views
from video_ats.video.window_stream import Failure, stream_windows

_RANKS = 5


class Predictor:
    """A loaded model, its settings, and how videos are read. Rows of a video do not depend on other videos.

    Args:
        config: its ``videos`` and ``output`` are not used.

    Attributes:
        label_names: in the order of the head; empty for a model without one, which gives embeddings only.
        plan: the views of a video or of a window.
        step: seconds between the starts of windows; None: there are none.
        settings: the one whose predictions are given, first; the dense one, if compared.

    Raises:
        ValueError, OSError: for anything in the configuration that does not fit or exist.
    """

    def __init__(self, config: PredictConfig) -> None:
        variant, weights = choose_or_usual(config.model, config.checkpoint)
        self.config = config = fill_in(config, variant, weights)
        views = config.views
        if config.every is not None:
            views = replace(views, clips=1, crops=views.crops or 1)
        self.plan = plan_views(variant, views)
        config.stop.check_views(self.plan)
        self.step = config.step(self.plan)
        labels = config.labels or config.data.labels
        self.label_names = class_names(labels, variant, weights, needed=not config.embeddings)
        if config.compare and not self.label_names:
            raise ValueError(f"compare dense: model {variant.name} has no head, so there are no classes to compare")
        sampler = config.sampler or variant.sampler or weights.sampler
        sampler, confidence = None if sampler == "dense" else sampler, config.stop.only
        if config.compare and sampler is None and confidence is None:
            raise ValueError("compare dense: there is no sampler to compare with; name one: --sampler.samples 32")
        shown = Setting(setting_name(sampler), sampler)
        dense = [Setting("dense", None)] if config.compare else []
        self.settings: tuple[Setting, ...] = (shown if confidence is None else shown.stopping(confidence), *dense)
        device = open_device(config.device)
        sizes = {"num_classes": len(self.label_names), "seed": config.seed}
        self.given = load_model(variant, weights, config.checkpoint_key, **sizes).to(device)
        check_samplers(self.settings, self.given.model)
        self.execution = Execution(device, config.precision, config.batch_size)

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Predict the videos of a batch, as `ray.data.Dataset.map_batches` calls it.

        Args:
            batch: ``path``: paths or URLs, [B] texts.

        Returns:
            Columns over the R rows of these videos, at least one each: ``path``, ``label``, ``status``, ``reason``
            (texts, empty where there is none), ``start``, ``end`` (seconds), ``probability``, ``gflops``, ``views``,
            ``tokens_kept`` (float64, NaN where there is none), with compare ``agrees`` (bool), and with embeddings
            ``embedding`` (float32 [R, E], NaN where there is none).
        """
        entries = [VideoEntry(path, path, None) for path in map(str, batch["path"])]
        rows = [row for of_video in self.predict(entries) for row in of_video]
        columns: dict[str, npt.NDArray[Any]] = {
            "path": np.array([row.video for row in rows], object),
            "start": np.array([row.start for row in rows], float),  # None becomes NaN
            "end": np.array([row.end for row in rows], float),
            "label": np.array([row.classes[0] if row.classes else "" for row in rows], object),
            "probability": np.array([row.probabilities[0] if row.classes else None for row in rows], float),
            "gflops": np.array([row.gflops if row.is_ok else None for row in rows], float),
            "views": np.array([row.views if row.is_ok else None for row in rows], float),
            "tokens_kept": np.array([row.tokens_kept if row.is_ok else None for row in rows], float),
            "status": np.array([row.status for row in rows], object),
            "reason": np.array([row.reason for row in rows], object),
        }
        if self.config.compare:
            columns["agrees"] = np.array([bool(row.agrees) for row in rows])
        if self.config.embeddings:
            nothing = np.full(self.embedding_width, np.nan, np.float32)
            columns["embedding"] = np.stack([row.vector() if row.is_ok else nothing for row in rows])
        return columns

    def predict(self, entries: Sequence[VideoEntry], begun: Sequence[Row] = ()) -> Iterator[list[Row]]:
        """The rows of each video, in the order of the entries, those of a long one in pieces; the last has its status.

        Args:
            begun: first rows of one of the videos, from an earlier call. They are given again; the model runs for the
                windows after them only.

        Raises:
            ValueError: a logit is not finite.
        """
        data = self.config.data
        if self.step is None:
            for sample in read_videos(entries, data, self.plan):
                first = _empty(sample.entry, sample.status, sample.reason)
                if sample.status is VideoStatus.OK:
                    (first,) = self._score([first], sample.views(self.plan, device=self.execution.device))
                yield [first]
            return
        with data.fetch.own_folder() as fetch:
            for entry in entries:
                same_file = entry.key, file_bytes(entry.path)
                before = [row for row in begun if (row.video, row.file_bytes) == same_file]
                held, count = list[Row](), 0
                for rows in self._windows(entry, self.step, fetch, before):
                    if held:
                        yield held
                    held = [replace(row, number=number, last=False) for number, row in enumerate(rows, count)]
                    count += len(held)
                yield [*held[:-1], replace(held[-1], last=True)]

    @cached_property
    def embedding_width(self) -> int:
        """Length E of an embedding."""
        plan = self.plan
        clip = torch.zeros(1, 3, plan.num_frames, plan.crop_size, plan.crop_size, device=self.execution.device)
        with torch.inference_mode():
            ((_, output),) = run_settings(self.given.model, self.settings[:1], clip, self.execution, embed=True)
        assert output.embeddings is not None
        return output.embeddings.shape[1]

    def _windows(
        self, entry: VideoEntry, step: Fraction, fetch: FetchLimits, begun: Sequence[Row]
    ) -> Iterator[list[Row]]:
        data = self.config.data
        at_once = self.execution.videos_at_once(1 if self.config.stop.happens else self.plan.num_views)
        if entry.problem:
            yield [_empty(entry, VideoStatus.MISSING, entry.problem)]
            return
        # Whole batches, so that a window has the batch-mates that it has in a run without interruption.
        batches = [list(begun[start : start + at_once]) for start in range(0, len(begun) - at_once + 1, at_once)]
        yield from batches
        opened = partial(
            read_every,
            entry.path,
            self.plan,
            step,
            min_frames=data.min_frames,
            fetch=fetch,
            folder_rate=None if data.fps is None else Fraction(data.fps).limit_denominator(100_000),
        )
        found = stream_windows(opened, data.workers)
        failures: list[VideoWindow | Failure] = [
            each for each in islice(found, len(batches) * at_once) if isinstance(each, Failure)
        ]
        while windows := failures or list(islice(found, at_once)):
            failures = []
            rows = self.score_windows(entry, [each for each in windows if isinstance(each, VideoWindow)])
            yield rows + [_empty(entry, each.status, each.reason) for each in windows if isinstance(each, Failure)]

    def score_windows(self, entry: VideoEntry, windows: Sequence[VideoWindow]) -> list[Row]:
        """A row for each window."""
        rows, views = [], []
        for window in windows:
            damage = f"FFmpeg concealed damage in {window.damaged} frames" if window.damaged else ""
            rows.append(replace(_empty(entry, VideoStatus.OK, damage), start=window.start, end=window.end))
            positions = torch.arange(len(window.frames))[None]
            views.append(make_views(window.frames, positions, self.plan, device=self.execution.device))
        return self._score(rows, torch.cat(views)) if rows else []

    @torch.inference_mode()
    def _score(self, rows: Sequence[Row], views: Tensor) -> list[Row]:
        """The rows with predictions of their views, float Tensor[len(rows) * V, 3, T, S, S]."""
        order, embed = self.plan.centre_first, self.config.embeddings
        runs = run_settings(self.given.model, self.settings, views, self.execution, order=order, embed=embed)
        best: dict[str, Tensor] = {}
        outputs: dict[str, SettingOutput] = {}
        for setting, output in runs:
            name, outputs[setting.name] = setting.name, output
            check_finite(output.logits, f"video {rows[0].video!r}, setting {name}")
            of_rows = output.logits.split(output.counts(len(order)))
            best[name] = torch.stack([(combine_views(logits) / len(logits)).softmax(dim=0) for logits in of_rows]).cpu()
        shown, *others = (setting.name for setting in self.settings)
        output, ranks = outputs[shown], min(_RANKS, len(self.label_names))
        values, classes = (top.tolist() for top in best[shown].topk(ranks))
        same = [None] * len(rows)
        if others:
            same = (best[others[0]].argmax(dim=1) == best[shown].argmax(dim=1)).tolist()
        counts = output.counts(len(order))
        macs, kept = output.macs().split(counts), output.kept_counts()[:, -1].split(counts)
        vectors = [""] * len(rows)
        if output.embeddings is not None:
            vectors = [encoded(each.mean(dim=0).cpu().numpy()) for each in output.embeddings.split(counts)]
        return [
            replace(
                row,
                top5=classes[place],
                classes=[self.label_names[index] for index in classes[place]],
                probabilities=values[place],
                gflops=int(macs[place].sum()) / 1e9,
                views=counts[place],
                tokens_kept=float(kept[place].double().mean()),
                agrees=same[place],
                embedding=vectors[place],
            )
            for place, row in enumerate(rows)
        ]


def _empty(entry: VideoEntry, status: VideoStatus, reason: str) -> Row:
    return Row(entry.key, status.value, reason, file_bytes(entry.path))
