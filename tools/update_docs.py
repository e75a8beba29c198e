"""Rewrite the generated tables of README.md and configs/README.md from the registry, the YAML files and the reports.

No figure in the documentation is typed by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from video_ats.cli import parse_config, run_tool
from video_ats.models.registry import Published, Variant, create_model, get_variant

# The run that README.md shows; written by tools/evaluate.py.
_SHOWN_RUN = Path("benchmarks/results/real_clips_random_weights/report.json")


def updated_documents(root: Path) -> dict[Path, str]:
    """Each document with generated blocks, and its text as it should be.

    Raises:
        ValueError: if a document has lost a block's markers.
    """
    configs, readme = root / "configs" / "README.md", root / "README.md"
    return {
        configs: _replace_block(configs, "configs", config_table(root / "configs")),
        readme: _replace_block(readme, "real clips", run_table(json.loads((root / _SHOWN_RUN).read_text()))),
    }


def config_table(folder: Path) -> str:
    """What each YAML file is expected to give; published figures and our closed form in columns of their own."""
    rows = [
        "| configuration | settings | dense GFLOPs per view, closed form here | published GFLOPs over 3 views "
        "| published top-1 / top-5 % | source |",
        "|---|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("*/*.yaml")):
        config = yaml.safe_load(path.read_text())
        variant = get_variant(config["model"])
        sweep = config.get("sweep", {})
        points = ", ".join("whole frame" if k is None else str(k) for k in sweep.get("samples", []))
        settings = "dense" + (f"; K = {points}" if points else "")
        gflops = f"{_dense_gflops(variant.name, config.get('num_classes', 400)):.1f}"
        for published in _published(variant, path.parent.name, sampled=bool(points)) or [None]:
            rows.append(f"| `{path.relative_to(folder)}` | {settings} | {gflops} | {_published_cells(published)} |")
    return "\n".join(rows)


def run_table(report: Mapping[str, Any]) -> str:
    """A run's settings beside each other, with what they were measured on."""
    rows = [
        "| setting | GFLOPs per view (p5 to p95) | of dense | model clips/s | tokens after block 3 / last |",
        "|---|---|---|---|---|",
    ]
    for s in report["settings"]:
        view = s["gflops_view"]
        rows.append(
            f"| {s['name']} | {view['mean']:.1f} ({view['p5']:.1f} to {view['p95']:.1f}) "
            f"| {s['relative_to_dense']:.2f} | {s['model_clips_per_second']:.2f} "
            f"| {s['kept'][3]:.0f} / {s['kept'][-1]:.0f} |"
        )
    environment = report["environment"]
    rows += [
        "",
        f"Measured here: `{report['run']['model']['name']}`, weights {report['run']['model']['weights']}; "
        f"{report['listed']} videos listed, {report['evaluated']} evaluated; {environment['device']} "
        f"({environment['processor']}, {environment['threads']} threads), torch {environment['torch']}, "
        f"PyAV {environment['av']}. Source: `{_SHOWN_RUN.parent}`.",
    ]
    return "\n".join(rows)


def _published(variant: Variant, dataset: str, *, sampled: bool) -> list[Published | None]:
    """Published figures on this data set: the dense model's, and those with ATS where the configuration samples."""
    rows = [*variant.published, *(get_variant(f"{variant.name}_ats").published if sampled else ())]
    return [published for published in rows if published.dataset == dataset]


def _published_cells(published: Published | None) -> str:
    if published is None:
        return "- | - | not published"
    gflops = "-" if published.gflops is None else f"{published.gflops:g}"
    top1, top5 = ("-" if value is None else f"{value:g}" for value in (published.top1, published.top5))
    return f"{gflops} | {top1} / {top5} | {published.source}"


@cache
def _dense_gflops(name: str, num_classes: int) -> float:
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes)
    return model.dense_macs() / 1e9  # type: ignore[operator]


def _replace_block(path: Path, name: str, text: str) -> str:
    """The document with what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` replaced."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), flags=re.DOTALL)
    document = path.read_text()
    if not pattern.search(document):
        raise ValueError(f"{path}: has no block between {begin!r} and {end!r}")
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", document)


@dataclass(frozen=True)
class DocsConfig:
    """Configuration of ``tools/update_docs.py``.

    Attributes:
        check: only say what is out of date, and exit with 1 if anything is.
    """

    check: bool = False


def main() -> int:
    """Parse, rewrite or compare, say which files."""
    config = parse_config(DocsConfig, __doc__ or "")
    root = Path(__file__).resolve().parents[1]
    outdated = {path: text for path, text in updated_documents(root).items() if path.read_text() != text}
    for path, text in outdated.items():
        print(("out of date: " if config.check else "rewritten: ") + str(path.relative_to(root)))
        if not config.check:
            path.write_text(text)
    return int(bool(outdated) and config.check)


if __name__ == "__main__":
    run_tool(main)
