"""Libraries that are installed only with an extra, such as ``pip install 'video-ats[train]'``."""

from importlib.util import find_spec


class MissingExtraError(ModuleNotFoundError):
    """A library of an extra is not installed."""


def require_extra(extra: str, *libraries: str) -> None:
    """Check that the libraries of an extra are installed, before they are imported.

    Args:
        extra: its name in ``setup.cfg``, such as ``train``.
        libraries: names to import.

    Raises:
        MissingExtraError: one line with the missing libraries and the command that installs them.
    """
    missing = [library for library in libraries if find_spec(library) is None]
    if missing:
        raise MissingExtraError(f"not installed: {', '.join(missing)}; pip install 'video-ats[{extra}]'")
