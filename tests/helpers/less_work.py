"""Whole runs with less to compute, for tests that ask about something else; nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from video_ats.evaluation import html_report, report
from video_ats.models import registry


def use_small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mini models, under their own names, on crops of 48 pixels instead of 96: a view costs a quarter.

    Their shipped weights fit, with fewer position embeddings, and still tell clips apart.
    """
    rows = {
        name: replace(row, arguments=MappingProxyType({**row.arguments, "crop_size": 48})) if "mini" in name else row
        for name, row in registry.VARIANTS.items()
    }
    monkeypatch.setattr(registry, "VARIANTS", MappingProxyType(rows))


def draw_no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of evaluations without their curves, half a second each of matplotlib's."""
    monkeypatch.setattr(report, "draw_curve", lambda *_, **__: None)
    monkeypatch.setattr(html_report, "svg_curve", lambda *_: "")
