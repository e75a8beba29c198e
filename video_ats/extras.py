"""Libraries that are installed only with an extra, such as ``pip install 'video-ats[train]'``."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


class MissingExtraError(ModuleNotFoundError):
    """Libraries of an extra are not installed; the message has the command that installs them."""


def require_extra(extra: str, *libraries: str) -> None:
    """Check that the libraries of an extra of ``setup.cfg`` are installed, before they are imported."""
    missing = [library for library in libraries if find_spec(library) is None]
    if missing:
        raise MissingExtraError(f"not installed: {', '.join(missing)}; {install_command(extra)}")


def install_command(extra: str) -> str:
    """The command that installs an extra in the way in which the package was installed.

    That is told by the files that installers write beside it: ``INSTALLER``, and ``direct_url.json`` for a package
    that came from no index, https://packaging.python.org/en/latest/specifications/direct-url/.
    """
    installer, source = "pip", None
    try:
        installed = metadata.distribution("video-ats")
    except metadata.PackageNotFoundError:  # run from a folder that is on the path
        pass
    else:
        installer = (installed.read_text("INSTALLER") or "pip").strip()
        source = json.loads(installed.read_text("direct_url.json") or "null")
    tool, wanted = "uv pip install" if installer == "uv" else "pip install", f"video-ats[{extra}]"
    if source is None:
        return f"{tool} '{wanted}'"
    url = source["url"]
    if "vcs_info" in source:
        url = f"{source['vcs_info']['vcs']}+{url}@{source['vcs_info']['commit_id']}"
    if "dir_info" not in source:  # a wheel, an archive or a repository
        return f"{tool} {shlex.quote(f'{wanted} @ {url}')}"
    folder = Path(url2pathname(urlsplit(url).path))
    editable = "-e " if source["dir_info"].get("editable") else ""
    if installer != "uv" and Path(sys.prefix) == folder / ".venv":  # as `make` sets it up
        return f"cd {shlex.quote(str(folder))} && .venv/bin/pip install {editable}'.[{extra}]'"
    return f"{tool} {editable}{shlex.quote(f'{folder}[{extra}]')}"
