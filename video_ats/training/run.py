"""Run a training. Accelerate runs it on one process or many."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import gather_object
from timm.utils import ModelEmaV3
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from video_ats.atomic import write_bytes, write_text
from video_ats.models.checkpoints import load_checkpoint, save_checkpoint
from video_ats.models.insert import insert_samplers_
from video_ats.runs.budget import write_calibrated
from video_ats.runs.files import append_to_log, claim_run, sole_user
from video_ats.runs.tables import progress_bar
from video_ats.runs.weights import LABELS
from video_ats.training.clips import TrainingBatch, create_mixup, read_training_batches, seed_of
from video_ats.training.configuration import METRICS
from video_ats.training.job import TrainingJob, learning_rate
from video_ats.training.lists import list_text
from video_ats.training.saved import FAILURES, HELD_OUT, Progress, SavedState, cut_log


def run(job: TrainingJob, say: Callable[[str], None] = print) -> Progress:
    """Train, validate after each epoch, and write weights, state and logs. Locks the output folder.

    In the main process only, ``say`` gets the messages for the user. After Ctrl-C the last saved state is kept.

    Raises:
        ValueError: if the folder holds another run, too many videos fail, or the loss is not finite.
    """
    main = job.accelerator.is_main_process
    with sole_user(Path(job.config.output)) if main else nullcontext():
        going = _Run(job, say if main else lambda _: None)
        while going.progress.epoch < job.config.epochs:
            going.epoch()
        if going.board is not None:
            going.board.close()
    return going.progress


class _Run:
    """The state of a run."""

    def __init__(self, job: TrainingJob, say: Callable[[str], None]) -> None:
        job.settle_budget(say)  # needs the initial weights
        self.job, self.config, self.accelerator, self.say = job, job.config, job.accelerator, say
        self.folder = Path(job.config.output)
        self.saved = SavedState(self.folder)
        self.progress = Progress()
        self.named = set[str]()  # videos of which was said that they cannot be read
        # Unwrapped, or the wrapper of DistributedDataParallel would be copied and saved too.
        model = job.accelerator.unwrap_model(job.model)
        self.ema = ModelEmaV3(model, decay=job.config.ema) if job.config.ema is not None else None
        assert job.config.num_classes is not None  # `prepare` has filled it in
        self.mixup = create_mixup(job.config.augment, job.config.num_classes)
        self._continue()
        self.board: SummaryWriter | None = None  # of the main process, which alone writes logs
        if self.accelerator.is_main_process:
            cut_log(self.folder / METRICS, self._is_before)
            cut_log(self.folder / FAILURES, self._is_before)
            self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self._steps_done() + 1)

    def epoch(self) -> None:
        order = replace(self.job.order, epoch=self.progress.epoch, first_step=self.progress.step)
        if self.config.sampler is not None:  # a validation has emptied the slots
            insert_samplers_(self.accelerator.unwrap_model(self.job.model), self.config.sampler)
        self.job.model.train(not self.config.freeze_backbone)
        of, shown = f"epoch {self.progress.epoch + 1}/{self.config.epochs}", self.accelerator.is_main_process
        bar = progress_bar(order.steps.stop, "step", of=of, done=order.steps.start, shown=shown)
        saved_at = logged_at = time.perf_counter()
        losses, busy = list[float](), 0.0  # since the last line of the log
        with bar, closing(read_training_batches(self.job.clips, order)) as reader:
            for step in order.steps:
                batches = list(islice(reader, order.passes_per_step))
                start = time.perf_counter()
                rate = learning_rate(self.job.scheduler, self._steps_done())
                losses.append(self._step(batches))
                busy += time.perf_counter() - start
                loss = sum(losses) / len(losses)
                self.progress = replace(self.progress, step=step + 1)
                bar.set_postfix(loss=f"{loss:.3f}", failed=self.progress.videos_failed, refresh=False)
                bar.update()
                if self.progress.step % self.config.log_steps == 0 or self.progress.step == order.steps.stop:
                    wall = time.perf_counter() - logged_at
                    speed, waiting = order.batch_size * len(losses) / wall, 1 - busy / wall
                    self._log({"loss": loss, "lr": rate, "clips_per_second": speed, "waiting_for_data": waiting})
                    losses, busy, logged_at = [], 0.0, time.perf_counter()
                if self._agree(time.perf_counter() - saved_at > 60 * self.config.save_minutes):
                    self._save()
                    saved_at = time.perf_counter()
        self._finish_epoch()

    def _step(self, batches: list[TrainingBatch]) -> float:
        """One optimiser step: some forward and backward passes, then one update of the weights. Returns the loss."""
        loss = torch.zeros((), device=self.accelerator.device)
        for number, batch in enumerate(batches):
            with self.accelerator.accumulate(self.job.model):
                loss += self._forward(batch, number) / len(batches)
                if self.accelerator.sync_gradients and self.config.optimiser.clip_norm is not None:
                    self.accelerator.clip_grad_norm_(self.job.model.parameters(), self.config.optimiser.clip_norm)
                self.job.optimizer.step()
                self.job.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.accelerator.unwrap_model(self.job.model))
        value = float(self.accelerator.reduce(loss, reduction="sum"))
        if not np.isfinite(value):
            raise ValueError(
                f"loss {value} at epoch {self.progress.epoch}, step {self.progress.step}: is the learning rate too "
                "high, or does float16 overflow (take bfloat16)? The last saved state is kept"
            )
        self._count_failures(batches)
        return value

    def _forward(self, batch: TrainingBatch, number: int) -> Tensor:
        """One forward and backward pass. Returns the part of this process in the mean loss of all processes."""
        device = self.accelerator.device
        clips, labels, weights = (x.to(device, non_blocking=True) for x in (batch.clips, batch.labels, batch.weights))
        # Stochastic depth and mixup depend on step, pass and process only, so that a run can be continued.
        seed = seed_of(self.config.seed, self._steps_done(), number, self.accelerator.process_index)
        torch.manual_seed(seed)
        targets: Tensor = labels
        if self.mixup is not None:
            np.random.seed(seed % 2**32)  # for timm's mixup
            flat, targets = self.mixup(clips.flatten(1, 2), labels)  # frames as channels: the same box
            clips = flat.view_as(clips)
            weights = weights * weights.flip(0)  # timm mixes clip i with clip -1 - i
        with self.accelerator.autocast():
            logits = self.job.model(clips)
        # timm's mixup has smoothed the labels already.
        smoothing = self.config.augment.label_smoothing if self.mixup is None else 0.0
        losses = F.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=smoothing)
        counted = self.accelerator.reduce(weights.sum(), reduction="sum").clamp(min=1)
        part = (losses * weights).sum() / counted
        # Accelerate averages the gradients of the processes; here they have to add up.
        self.accelerator.backward(part * self.accelerator.num_processes)
        return part.detach()

    def _count_failures(self, batches: list[TrainingBatch]) -> None:
        found = gather_object([failure for batch in batches for failure in batch.failures])
        read, failed = self.progress.videos_read + self.job.order.batch_size, self.progress.videos_failed + len(found)
        self.progress = replace(self.progress, videos_read=read, videos_failed=failed)
        if self.accelerator.is_main_process:
            step = self._steps_done() + 1
            append_to_log(self.folder / FAILURES, ({**asdict(failure), "step": step} for failure in found))
        for failure in found:
            self._name(failure.video, failure.status, failure.reason)
        # The share counts after a tenth of an epoch, or a whole short one, and never for a single video.
        enough = min(max(self.job.order.videos // 10, 20), self.job.order.videos)
        single = failed <= self.progress.epoch + 1
        if read >= enough and failed / read > self.config.max_failed_share and not single:
            raise ValueError(
                f"{failed} of {read} videos failed, more than max_failed_share {self.config.max_failed_share}; "
                f"they are listed in {self.folder / FAILURES}"
            )

    def _name(self, video: str, status: str, reason: str) -> None:
        """Say once of a video that it cannot be read."""
        if video not in self.named:
            self.named.add(video)
            self.say(f"left out: {video}: {reason} ({status})")

    def _finish_epoch(self) -> None:
        self.progress = replace(self.progress, epoch=self.progress.epoch + 1, step=0)
        model = self.accelerator.unwrap_model(self.job.model) if self.ema is None else self.ema.module
        best = False
        if self.job.validation is not None:
            result = self.job.validate(model, self.progress.epoch, self._name)
            best = self.progress.best_top1 is None or result["val_top1"] > self.progress.best_top1
            self.progress = replace(self.progress, best_top1=max(result["val_top1"], self.progress.best_top1 or 0.0))
            self._log(result)
            failed = f", {result['val_failed']} failed" if result["val_failed"] else ""
            self.say(
                f"epoch {self.progress.epoch} of {self.config.epochs}: top-1 {result['val_top1']:.1f}%, "
                f"{result['val_gflops']:.3g} GFLOPs a view, {result['val_evaluated']} videos{failed}"
            )
        self._write_weights("last.safetensors")
        if best:
            self._write_weights("best.safetensors")
        self._save()

    def _write_weights(self, name: str) -> None:
        state = self.accelerator.get_state_dict(self.job.model) if self.ema is None else self.ema.module.state_dict()
        if self.accelerator.is_main_process:
            save_checkpoint(state, self.folder / name, metadata=self.job.description())
            names = self.job.listed.label_names
            if names is not None:
                write_text(self.folder / LABELS, "".join(f"{label}\n" for label in names))
        self.accelerator.wait_for_everyone()

    def _save(self) -> None:
        """Save the state to continue from: all of it or, if anything fails, nothing."""
        main, wait = self.accelerator.is_main_process, self.accelerator.wait_for_everyone
        if main:
            self.saved.begin()
        wait()
        with self.saved.writing():
            self.accelerator.save_state(str(self.saved.unfinished))
        if main and self.ema is not None:
            save_checkpoint(self.ema.module, self.saved.unfinished / "ema.safetensors")
        wait()
        if main:
            self.saved.finish(self.progress)
        wait()

    def _continue(self) -> None:
        """Load the newest saved state, if there is one, and check that it is of this run."""
        found = self.saved.newest()
        self.config.refuse_kept(state=found is not None)
        if self.accelerator.is_main_process:
            claim_run(self.folder / METRICS, self.job.identity())
            self.saved.remove_left_overs()
            if self.job.settled is not None:
                write_calibrated(self.folder, asdict(self.config))
            if self.job.held_out and self.job.validation is not None:
                listed = list_text(self.job.validation, self.config.train.videos)
                write_bytes(self.folder / HELD_OUT, listed.encode(errors="surrogateescape"))  # a path may be no UTF-8
        self.accelerator.wait_for_everyone()
        if found is None:
            return
        path, self.progress = found
        self.accelerator.load_state(str(path))
        if self.ema is not None:
            load_checkpoint(self.ema.module, path / "ema.safetensors")
        if self.progress.epoch < self.config.epochs:
            self.say(f"continuing at epoch {self.progress.epoch + 1}, step {self.progress.step + 1}")
        else:
            self.say(f"all {self.config.epochs} epochs are done")

    def _steps_done(self) -> int:
        return self.progress.epoch * len(self.job.order.steps) + self.progress.step

    def _is_before(self, record: dict[str, Any]) -> bool:
        # A validation belongs to the state after its epoch. A run that continues from before it validates again.
        validated = int(record.get("val_epoch", 0)) <= self.progress.epoch
        return validated and int(record["step"]) <= self._steps_done()

    def _log(self, record: dict[str, Any]) -> None:
        if self.board is None:
            return
        step = self._steps_done()
        place = {"step": step, "epoch": step / len(self.job.order.steps)}
        counts = {"videos_read": self.progress.videos_read, "videos_failed": self.progress.videos_failed}
        append_to_log(self.folder / METRICS, [{**place, **record, **counts}])
        for name, value in (record | counts).items():
            self.board.add_scalar(name, value, step)
        self.board.flush()

    def _agree(self, wish: bool) -> bool:
        """The main process decides for all, since clocks differ."""
        mine = torch.tensor(float(wish and self.accelerator.is_main_process), device=self.accelerator.device)
        return bool(self.accelerator.reduce(mine, reduction="sum") > 0)
