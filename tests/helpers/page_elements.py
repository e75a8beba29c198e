"""What a browser would make of a page: its elements and its text."""

from __future__ import annotations

from html.parser import HTMLParser


class PageElements(HTMLParser):
    """``elements``: tag and attributes of each. ``text``: all of it, but for scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.text += data


def check_harmless(page: str, name: str) -> None:
    """Assert that nothing in a page but its own two scripts runs or loads, and that a hostile name is there as text."""
    found = PageElements(page)
    assert [tag for tag, _ in found.elements].count("script") == 2
    for tag, attributes in found.elements:
        assert tag not in ("iframe", "object", "embed", "base", "link", "form", "a")
        assert not any(attribute.startswith("on") for attribute in attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
        assert not {"href", "srcdoc", "action"} & attributes.keys()
        assert (attributes.get("xlink:href") or "#").startswith("#")  # a mark of the same picture
    assert name in found.text
