"""Libraries that are installed only with an extra, such as ``pip install 'video-ats[train]'``."""

from importlib.util import find_spec


class MissingExtraError(ModuleNotFoundError):
    """Libraries of an extra are not installed; the message has the command that installs them."""


def require_extra(extra: str, *libraries: str) -> None:
    """Check that the libraries of an extra of ``setup.cfg`` are installed, before they are imported."""
    missing = [library for library in libraries if find_spec(library) is None]
    if missing:
        raise MissingExtraError(f"not installed: {', '.join(missing)}; pip install 'video-ats[{extra}]'")
