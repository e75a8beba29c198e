"""Tables, sentences and the picture of docs/reducers.md, from the results of benchmarks/reducers.py."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from video_ats.atomic import replacing
from video_ats.runs.metrics import Accuracy, Difference, paired_difference
from video_ats.runs.settings import block_ranges
from video_ats.runs.tables import markdown_table
from video_ats.tokens import SamplerConfig

_RESULTS = Path("benchmarks", "results", "reducers")
PICTURE = Path("docs", "images", "reducers.png")
_NOT_YET = "Not measured yet."
_RECOMMENDED, _PUBLISHED, _ATS, _RANDOM = "calibrated", "ATS, per frame", "ATS", "random"
_OURS = (_RECOMMENDED, "similar", "ATS, tempered and merged")
_NEAR = 0.05  # of the budget: a method that spends so much more or less is said to
# Colour-blind safe, after Okabe and Ito; scores of ATS share one.
_COLOURS = {
    _PUBLISHED: "#56B4E9",
    _ATS: "#0072B2",
    "ATS, tempered and merged": "#009E73",
    _RECOMMENDED: "#D55E00",
    "similar": "#F0E442",
    "tome": "#CC79A7",
    "static": "#E69F00",
    "topk": "#8c564b",
    _RANDOM: "#666666",
    "uniform": "#1a1a1a",
}
_OTHER_SCORES = "#a9c9e8"
# Of ATS, in models without class token.
_FEW_ROWS = "ATS, received by 16 rows"
_SCORES = {"ATS, scores received": "received", _FEW_ROWS: "received by 16 rows", "ATS, scores query": "query"}
_SCORES |= {f"ATS, scores {name}": name for name in ("sharpness", "keys", "motion")}


@dataclass(frozen=True)
class Row:
    """A method at a budget that it reaches, over the clips of all parts of the validation split."""

    method: str
    budget: float
    sampler: SamplerConfig
    share: float  # of the dense multiply-adds
    right: npt.NDArray[np.bool_]
    as_random: npt.NDArray[np.bool_] | None  # of a random choice of as many tokens

    @property
    def key(self) -> tuple[str, float]:
        """Method and budget."""
        return self.method, self.budget

    @property
    def spends_less(self) -> bool:
        """Whether it costs clearly less than the budget, since none of its settings could spend it."""
        return self.share < self.budget * (1 - _NEAR)

    @property
    def spends_more(self) -> bool:
        """Whether it costs more on these clips than on those that its setting was found on, by more than a little."""
        return self.share > self.budget * (1 + _NEAR)

    @property
    def chosen(self) -> str:
        """What the trials chose, without numbers."""
        blocks = self.sampler.blocks
        if blocks is None:
            return f"threshold {self.sampler.static:g}"
        scheme = "" if self.sampler.scheme == "reference" else f", {self.sampler.scheme}"
        return f"{self.sampler.scope}, blocks {block_ranges(blocks).replace('..', ' to ')}{scheme}"


class PairResult:
    """A model and data: what ``PAIR.json`` holds, and ``time_PAIR.json`` where there is one."""

    def __init__(self, path: Path) -> None:
        self.saved: dict[str, Any] = json.loads(path.read_text())
        timed = path.with_name(f"time_{path.name}")
        self.times: list[dict[str, Any]] = json.loads(timed.read_text())["rows"] if timed.exists() else []
        # Budgets that are not finished are left out, and so are later parts.
        first, *others = self.saved["dense"] or [""]
        chosen = [row for row in self.saved["rows"] if row["trials"]]
        unfinished = {row["budget"] for row in chosen if first not in row["parts"]}
        run = [row for row in chosen if row["budget"] not in unfinished]
        self.parts = [first, *(part for part in others if all(part in row["parts"] for row in run))]
        self.rows = [self._row(row) for row in run]

    @property
    def name(self) -> str:
        """In words, for a heading."""
        model, data = self.saved["pair"]["model"], self.saved["pair"]["data"]
        return f"{model} on {data}"

    @property
    def has_class_token(self) -> bool:
        """Whether the model has one; if not, few rows of the attention are tried as scores."""
        return _FEW_ROWS not in self.methods

    @property
    def budgets(self) -> list[float]:
        """Shares of the dense multiply-adds, the largest first."""
        return sorted({row.budget for row in self.rows}, reverse=True)

    @property
    def methods(self) -> list[str]:
        """All that were tried, in their order."""
        return list(dict.fromkeys(row["method"] for row in self.saved["rows"]))

    @cached_property
    def dense(self) -> npt.NDArray[np.bool_]:
        """Which clips the dense model has right."""
        return self._pooled(self.saved["dense"])

    def at(self, budget: float) -> dict[str, Row]:
        """The rows of a budget by their methods."""
        return {row.method: row for row in self.rows if row.budget == budget}

    def unreached(self, budget: float) -> list[str]:
        """Methods of which no trial is as cheap as the budget."""
        return [row["method"] for row in self.saved["rows"] if row["budget"] == budget and not row["trials"]]

    def time(self, row: Row, batch: int) -> str:
        """Of a batch of clips, as a share of dense; not every budget is timed."""
        found = [t["of_dense"] for t in self.times if (t["method"], t["budget"], t["batch"]) == (*row.key, batch)]
        return f"{found[0]:.2f}" if found else "-"

    def _row(self, saved: dict[str, Any]) -> Row:
        clips = [self.saved["dense"][part]["clips"] for part in self.parts]
        gflops = np.average([saved["parts"][part]["gflops"] for part in self.parts], weights=clips)
        dense = np.average([self.saved["dense"][part]["gflops"] for part in self.parts], weights=clips)
        as_random = {part: saved["parts"][part].get("random") for part in self.parts}
        told = saved["trials"][0]["sampler"]
        options: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in told.items()
        }
        return Row(
            saved["method"],
            saved["budget"],
            SamplerConfig(**options),
            float(gflops / dense),
            self._pooled(saved["parts"]),
            None if None in as_random.values() else self._pooled(as_random),
        )

    def _pooled(self, by_part: dict[str, Any]) -> npt.NDArray[np.bool_]:
        return np.concatenate([unpacked(by_part[part]["right"], by_part[part]["clips"]) for part in self.parts])


def unpacked(digits: str, clips: int) -> npt.NDArray[np.bool_]:
    """Which of so many clips are right, from hexadecimal digits."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(digits), dtype=np.uint8), count=clips)
    return bits.astype(np.bool_)


def difference(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Difference:
    """Of two settings on the same clips."""
    return _difference(first.tobytes(), second.tobytes())


@cache  # the blocks ask for most of them more than once
def _difference(first: bytes, second: bytes) -> Difference:
    return paired_difference(*(np.frombuffer(right, np.bool_)[None] for right in (first, second)))


def pair_results(root: Path) -> list[PairResult]:
    """All pairs with a row that was run."""
    paths = [path for path in sorted((root / _RESULTS).glob("*.json")) if not path.name.startswith("time_")]
    return [result for result in map(PairResult, paths) if result.rows]


def reducer_blocks(root: Path) -> dict[str, str]:
    """Text of each block by name."""
    results = pair_results(root)
    if not results:
        return dict.fromkeys(("winners", "claims", "differences", "figures"), _NOT_YET)
    drawn = f"![Top-1 minus dense against the share of the GFLOPs](images/{PICTURE.name})\n\n"
    classes = [result for result in results if result.has_class_token]
    told = "\n".join(f"- {each}" for each in (run_so_far(results), *winners(classes)))
    return {
        "winners": (drawn if (root / PICTURE).exists() else "") + told,
        "claims": "\n".join(f"- {told}" for told in claims(classes)),
        "differences": "\n\n".join(map(difference_table, results)),
        "figures": "\n\n".join(map(figure_table, results)),
    }


def without_class_blocks(root: Path) -> dict[str, str]:
    """The blocks of docs/results.md on models without a class token."""
    results = [result for result in pair_results(root) if not result.has_class_token]
    told = "\n".join(f"- {told}" for told in without_class_token(results))
    return {"without class token": told or _NOT_YET, "pooled sizes": pooled_sizes(root)}


def run_so_far(results: Sequence[PairResult]) -> str:
    """Which pairs and budgets have been run; the page speaks of no others."""
    each = (f"{result.name} at {', '.join(f'{budget:.0%}' for budget in result.budgets)}" for result in results)
    return f"Run so far: {'; '.join(each)}."


def difference_table(result: PairResult) -> str:
    """Methods by budgets: what each loses against dense, and has over random at equal tokens."""
    heads = ["method"]
    for budget in result.budgets:
        heads += [f"{budget:.0%}: minus dense [95%]", "minus random", "share"]
    rows = []
    for method in result.methods:
        cells = [method]
        for budget in result.budgets:
            row = result.at(budget).get(method)
            if row is None:
                cells += ["not reached" if method in result.unreached(budget) else "-", "-", "-"]
                continue
            against = "-" if row.as_random is None else str(difference(row.right, row.as_random))
            cells += [str(difference(row.right, result.dense)), against, f"{row.share:.2f}"]
        rows.append(cells)
    clips, dense = len(result.dense), Accuracy.of(int(result.dense.sum()), len(result.dense))
    told = f"**{result.name}**: dense {dense}% of {clips:,} clips."
    return "\n".join([told, "", *markdown_table(heads, rows), "", _measured(result)])


def figure_table(result: PairResult) -> str:
    """Every chosen setting with its accuracy, its difference from the recommended one, and its time."""
    heads = [
        "budget",
        "method",
        "chosen",
        "share",
        "top-1 % [95%]",
        f"minus {_RECOMMENDED}",
        "time, batch 1",
        "batch 8",
    ]
    rows = []
    for budget in result.budgets:
        at = result.at(budget)
        for method, row in at.items():
            against = "-"
            if method != _RECOMMENDED and _RECOMMENDED in at:
                against = str(difference(row.right, at[_RECOMMENDED].right))
            top1 = Accuracy.of(int(row.right.sum()), len(row.right))
            times = [result.time(row, batch) for batch in (1, 8)]
            rows.append([f"{budget:.0%}", method, row.chosen, f"{row.share:.2f}", str(top1), against, *times])
    return "\n".join([f"**{result.name}**", "", *markdown_table(heads, rows)])


def winners(results: Sequence[PairResult]) -> Iterator[str]:
    """Sentences: which method wins where, and which others cannot be told from it."""
    yield _in_the_lead(results)
    for result in results:
        for budget in result.budgets:
            yield _winner(result, budget)
    yield from _against(results, _RECOMMENDED)
    for ours in _OURS:
        yield _losses(results, ours)


def pooled_sizes(root: Path) -> str:
    """A table: a pooling head with and without the sizes of merged tokens."""
    path = root / _RESULTS.parent / "pooled_sizes" / "result.json"
    if not path.exists():
        return _NOT_YET
    rows, ways = json.loads(path.read_text())["rows"], ("sizes", "no sizes")
    heads = ["threshold", "share", "top-1 %: dense", *ways, "difference [95%]"]
    heads += [f"log-likelihood, mean distance from dense's: {way}" for way in ways]
    cells = [
        [
            *(f"{row['threshold']:g}", f"{row['share']:.2f}", f"{row['top1 dense']:.1f}"),
            *(f"{row[f'top1 {way}']:.1f}" for way in ways),
            row["difference"],
            *(f"{row[f'from dense {way}']:.3f}" for way in ways),
        ]
        for row in rows
    ]
    return "\n".join(markdown_table(heads, cells))


def without_class_token(results: Sequence[PairResult]) -> Iterator[str]:
    """Sentences: which scores of ATS win where there is no class token, and what merging makes of the same budget."""
    for result in results:
        for budget in result.budgets:
            at = result.at(budget)
            scored = [at[name] for name in _SCORES if name in at]
            best = max(scored, key=lambda row: (int(row.right.sum()), -row.share))
            alike = [
                _SCORES[row.method]
                for row in scored
                if row is not best and difference(best.right, row.right).verdict == 0
            ]
            told = [
                f"{_SCORES[row.method]} {difference(row.right, result.dense)} ({row.share:.2f}; over random "
                f"{'-' if row.as_random is None else difference(row.right, row.as_random)})"
                for row in scored
            ]
            yield (
                f"{result.name}, {budget:.0%}: of the scores, **{_SCORES[best.method]}** is the most accurate; "
                + (f"not told from it: {', '.join(alike)}. " if alike else "all others are shown to be worse. ")
                + f"Points minus dense (share of the GFLOPs): {'; '.join(told)}."
            )
            yield _winner(result, budget)


def _in_the_lead(results: Sequence[PairResult]) -> str:
    """How often each method is the best or cannot be told from it, the most often first."""
    counts: dict[str, list[bool]] = {}
    for result in results:
        for budget in result.budgets:
            best, alike = _best(result, budget)
            for name in result.at(budget):
                counts.setdefault(name, []).append(name == best.method or name in alike)
    ordered = sorted(counts.items(), key=lambda item: -np.mean(item[1]))
    told = ", ".join(f"{name} {sum(leads)} of {len(leads)}" for name, leads in ordered)
    return f"The most accurate at its budget, or not told from it: {told}."


def _best(result: PairResult, budget: float) -> tuple[Row, list[str]]:
    """The most accurate at a budget, and the names of those that cannot be told from it."""
    at = result.at(budget)
    best = max(at.values(), key=lambda row: (int(row.right.sum()), -row.share))
    # A method of which another method's setting was the best has the same right answers.
    verdicts = {name: difference(best.right, row.right).verdict for name, row in at.items() if name != best.method}
    return best, [name for name, verdict in verdicts.items() if verdict == 0]


def _winner(result: PairResult, budget: float) -> str:
    at = result.at(budget)
    best, alike = _best(result, budget)
    told = (
        f"{result.name}, {budget:.0%}: **{best.method}** is the most accurate, "
        f"{difference(best.right, result.dense)} points from dense at {best.share:.2f}. "
    )
    told += f"Not told from it: {', '.join(alike)}." if alike else "All others are shown to be worse."
    if missing := result.unreached(budget):
        told += f" Not reached: {', '.join(missing)}."
    if less := [f"{name} ({row.share:.2f})" for name, row in at.items() if row.spends_less]:
        told += f" Spend less, as no setting spends more: {', '.join(less)}."
    if more := [f"{name} ({row.share:.2f})" for name, row in at.items() if row.spends_more]:
        told += f" Spend more than where their settings were found: {', '.join(more)}."
    return told


def _against(results: Sequence[PairResult], reference: str) -> Iterator[str]:
    """How often each method is better or worse than one of them at the same budget."""
    counts: dict[str, list[int]] = {}
    for result in results:
        for budget in result.budgets:
            at = result.at(budget)
            for name, row in at.items() if reference in at else ():
                if name != reference:
                    counts.setdefault(name, []).append(difference(row.right, at[reference].right).verdict)
    told = [f"{name} {found.count(1)} / {found.count(0)} / {found.count(-1)}" for name, found in counts.items()]
    if told:
        yield f"Against {reference} at the same budget, better / not told / worse: {', '.join(told)}."


def _losses(results: Sequence[PairResult], ours: str) -> str:
    """Where a method of ours is shown to be worse than another, or than random at equal tokens."""
    lost = []
    for result in results:
        for budget in result.budgets:
            at = result.at(budget)
            if ours not in at:
                continue
            others = {name: row.right for name, row in at.items() if name != ours and name not in _OURS}
            if (as_random := at[ours].as_random) is not None:
                others["random at equal tokens"] = as_random
            found = {name: difference(right, at[ours].right) for name, right in others.items()}
            worse = [f"{name} ({by})" for name, by in found.items() if by.verdict == 1]
            if worse:
                lost.append(f"{result.name}, {budget:.0%}: to {', '.join(worse)}")
    if not lost:
        return f"{ours} is nowhere shown to lose to a method that is not ours."
    return f"**{ours} loses** on {'; on '.join(lost)}."


def claims(results: Sequence[PairResult]) -> Iterator[str]:
    """Sentences: what published claims come to here."""
    yield (
        "ATS halves the GFLOPs and keeps the accuracy ([2111.15667](https://arxiv.org/abs/2111.15667)). Here at 50%, "
        f"per frame as published: {_losses_of(results, _PUBLISHED, 0.5)}; with the best scope: "
        f"{_losses_of(results, _ATS, 0.5)}. {_versus_random(results, (_PUBLISHED,))}"
    )
    yield (
        "Token merging doubles the throughput and loses 0.2 to 0.3 points, on video too "
        "([2210.09461](https://arxiv.org/abs/2210.09461)). Here at 50%: " + _losses_of(results, "tome", 0.5) + "."
    )
    yield (
        "Run-length tokens without training: 35% more throughput for 0.1 points "
        "([2411.05222](https://arxiv.org/abs/2411.05222)). Here at 75%, which is a third more clips for the same "
        f"GFLOPs: {_losses_of(results, 'static', 0.75)}. {_versus_random(results, ('static',))}"
    )
    yield "Scores of attention sharpness ([2403.13347](https://arxiv.org/abs/2403.13347)) " + _compared(
        results, "ATS, scores sharpness", _ATS, "those of the class token"
    )
    yield "Our length encoding without training " + _compared(results, "static, length encoding", "static", "none")
    others = [name for name in dict.fromkeys(m for r in results for m in r.methods) if name != _RANDOM]
    yield (
        "Most reducers do not beat random dropping ([2411.13626](https://arxiv.org/abs/2411.13626)). Here: "
        + _versus_random(results, others)
    )


def _losses_of(results: Sequence[PairResult], method: str, budget: float) -> str:
    told = []
    for result in results:
        if (row := result.at(budget).get(method)) is not None:
            told.append(f"{difference(row.right, result.dense)} points ({result.name}, at {row.share:.2f})")
        elif method in result.unreached(budget):
            told.append(f"not reached ({result.name})")
    return ", ".join(told) or "not measured"


def _versus_random(results: Sequence[PairResult], methods: Sequence[str]) -> str:
    rows = [row for result in results for row in result.rows if row.method in methods and row.as_random is not None]
    found = [difference(row.right, row.as_random).verdict for row in rows if row.as_random is not None]
    if not found:
        return "Random at equal tokens was not run."
    name = f"{methods[0]} is" if len(methods) == 1 else "the other methods are"
    return (
        f"Of {_comparisons(found)}, {name} better than random at equal tokens in {found.count(1)}, not told "
        f"from it in {found.count(0)}, worse in {found.count(-1)}."
    )


def _comparisons(found: Sequence[int]) -> str:
    return f"{len(found)} comparison{'s' * (len(found) != 1)}"


def _compared(results: Sequence[PairResult], one: str, other: str, name: str) -> str:
    found = []
    for result in results:
        for budget in result.budgets:
            at = result.at(budget)
            if one in at and other in at:
                found.append(difference(at[one].right, at[other].right).verdict)
    if not found:
        return f"against {name}: not measured."
    return (
        f"against {name}, of {_comparisons(found)}: better in {found.count(1)}, not told in "
        f"{found.count(0)}, worse in {found.count(-1)}."
    )


def _measured(result: PairResult) -> str:
    environment = result.saved["environment"]
    return (
        f"Measured here: {environment['device']} ({environment['processor']}, {environment['threads']} threads), torch "
        f"{environment['torch']}; settings chosen on {result.saved['choosing']:,} clips of the choosing split. Source: "
        f"`{_RESULTS / result.saved['pair']['name']}.json`."
    )


def draw_reducers(root: Path) -> Path | None:
    """Draw accuracy against cost, a panel for each pair with a class token; returns the path, or None without any."""
    results = [result for result in pair_results(root) if result.has_class_token]
    if not results:
        return None
    figure = Figure(figsize=(4.2 * min(len(results), 2), 3.3 * ((len(results) + 1) // 2) + 0.9), dpi=90)
    panels = figure.subplots((len(results) + 1) // 2, min(len(results), 2), squeeze=False).flatten()
    handles: dict[str, Any] = {}
    for panel, result in zip(panels, results, strict=False):
        for method in result.methods:
            rows = sorted((row for row in result.rows if row.method == method), key=lambda row: row.share)
            colour = _COLOURS.get(method, _OTHER_SCORES)
            points = [difference(row.right, result.dense).points for row in rows]
            style = {"color": colour, "marker": "o", "markersize": 3.5, "linewidth": 1.8 if method in _OURS else 1}
            (handles["ATS, other scores" if colour == _OTHER_SCORES else method],) = panel.plot(
                [row.share for row in rows], points, zorder=1 if colour == _OTHER_SCORES else 2, **style
            )
        panel.axhline(0, color="#1a1a1a", linewidth=0.8, linestyle=":")
        panel.set_xlim(0.2, 0.8)
        panel.set_title(result.name, fontsize=9)
        panel.set_xlabel("share of the dense GFLOPs", fontsize=8)
        panel.set_ylabel("top-1 minus dense, points", fontsize=8)
        panel.tick_params(labelsize=8)
    for panel in panels[len(results) :]:
        panel.remove()
    columns = 4 if len(results) > 1 else 2
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=columns, fontsize=7.5, frameon=False)
    figure.tight_layout(rect=(0, 0.12 if len(results) > 2 else 0.2 if len(results) > 1 else 0.3, 1, 1))
    path = root / PICTURE
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
    return path
