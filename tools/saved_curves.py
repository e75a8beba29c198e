"""Draws ``curve.png`` of a finished run again, from its ``report.json`` alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from video_ats.evaluation.curve import draw_curve
from video_ats.evaluation.report import curve_title
from video_ats.evaluation.summary import SettingSummary
from video_ats.runs.metrics import Accuracy, Spread
from video_ats.runs.settings import Setting
from video_ats.tokens import SamplerConfig


def redraw_curve(folder: Path) -> Path:
    """Draw the picture of a labelled run as `write_report` does now; returns its path."""
    report = json.loads((folder / "report.json").read_text())
    of = report["run"]["settings"]
    settings = [Setting(name, _sampler(of, name), each["follows"], each["finetuned"]) for name, each in of.items()]
    title = curve_title(report["run"]["model"], report["evaluated"], report["notes"])
    path = folder / "curve.png"
    draw_curve(path, settings, [_summary(saved) for saved in report["settings"]], title=title)
    return path


def _sampler(of: Mapping[str, Any], name: str) -> SamplerConfig | None:
    sampler = of[name]["sampler"]
    if sampler is not None and str(sampler["samples"]).startswith("matched"):  # before there was a field for it
        sampler = {**sampler, "samples": of[of[name]["follows"]]["sampler"]["samples"], "matched": True}
    return sampler and SamplerConfig(**sampler)


def _summary(saved: Mapping[str, Any]) -> SettingSummary:
    """What is drawn of it; all else is None."""
    drawn = {"name": saved["name"], "top1": Accuracy(**saved["top1"]), "gflops_video": Spread(**saved["gflops_video"])}
    return SettingSummary(**{**dict.fromkeys(field.name for field in fields(SettingSummary)), **drawn})
