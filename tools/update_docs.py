"""Rewrite the generated tables of README.md and configs/README.md from the registry, the YAML files and the reports."""

import sys
from pathlib import Path

from video_ats.cli import run_tool
from video_ats.evaluation.docs import updated_documents


def main() -> int:
    """Rewrite, or with ``--check`` only say what is out of date."""
    root = Path(__file__).resolve().parents[1]
    outdated = {path: text for path, text in updated_documents(root).items() if path.read_text() != text}
    for path, text in outdated.items():
        print(("out of date: " if "--check" in sys.argv[1:] else "rewritten: ") + str(path.relative_to(root)))
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
    return int(bool(outdated) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    run_tool(main)
