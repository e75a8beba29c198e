"""Libraries that only an extra of the installation brings."""

from importlib.util import find_spec


class MissingExtraError(ModuleNotFoundError):
    """A library is not installed that comes with an extra."""


def require_extra(extra: str, *libraries: str) -> None:
    """See to it that what an extra brings is there, before it is imported.

    Args:
        extra: of ``setup.cfg``, such as ``train``.
        libraries: names by which they are imported.

    Raises:
        MissingExtraError: one line that says what is missing and how to install it.
    """
    missing = [library for library in libraries if find_spec(library) is None]
    if missing:
        raise MissingExtraError(f"not installed: {', '.join(missing)}; pip install 'video-ats[{extra}]'")
