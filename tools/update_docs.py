"""Rewrite the generated tables of README.md and configs/README.md from the registry, the YAML files and the reports."""

from dataclasses import dataclass
from pathlib import Path

from video_ats.cli import parse_config, run_tool
from video_ats.evaluation.docs import updated_documents


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
