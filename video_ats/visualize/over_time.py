"""A plot of predictions over the time of a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_MOST_CLASSES = 4
# Colour-blind safe (after Okabe and Ito).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")


def draw_over_time(
    path: Path,
    spans: Sequence[tuple[float, float]],
    probabilities: dict[str, npt.NDArray[np.floating]],
    names: Sequence[str],
    *,
    title: str,
) -> None:
    """Write a plot (PNG) of the probabilities (float [windows, num_classes] of each setting) of the likeliest classes.

    ``spans`` are the windows in seconds. Classes that never reach 2% are left out.
    """
    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    highest = np.max([table.max(axis=0) for table in probabilities.values()], axis=0)
    chosen = [number for number in np.argsort(-highest, kind="stable")[:_MOST_CLASSES] if highest[number] > 0.02]
    centres = [(start + end) / 2 for start, end in spans]
    lines = ("-", "--", ":", "-.")
    for colour, number in zip(_COLOURS, chosen, strict=False):
        for order, (setting, table) in enumerate(probabilities.items()):
            label = f"{names[number]}, {setting}".replace("$", r"\$")  # not mathematics
            line = lines[order % len(lines)]
            axes.plot(centres, 100 * table[:, number], line, marker="o", markersize=3, color=colour, label=label)
    axes.set_xlabel(f"middle of the window in seconds (each is {spans[0][1] - spans[0][0]:.1f} s long)")
    axes.set_ylabel("probability in %")
    axes.set_xlim(0, spans[-1][1])
    axes.set_ylim(-2, 102)
    axes.set_title(title.replace("$", r"\$"), fontsize=10)
    axes.grid(alpha=0.25)
    figure.legend(fontsize=8, loc="outside right upper", handlelength=3)
    figure.savefig(path, format="png")
