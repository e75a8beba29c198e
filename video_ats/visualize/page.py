"""Self-contained HTML pages, which load nothing from the network and escape all text.

Text becomes HTML only in `escaped` and the functions that call it. Arguments with the name ``markup`` are HTML.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

# With this policy, the browser loads nothing that is not in the page.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_STYLE = """\
:root { color-scheme: light dark; --ink: #1a1a1a; --pale: #555; --paper: #fff; --line: #ddd; --rule: #888;
  --lit: #fff4d6; --warn: #d59a00; --box: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --pale: #aaa; --paper: #16181c; --line: #33373e;
  --rule: #777; --lit: #4a3d12; --warn: #d59a00; --box: #23262c; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 72rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th { border-bottom-color: var(--rule); } th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; } figure { margin: 1rem 0; } figcaption, .note { color: var(--pale); }
select, input { max-width: 100%; box-sizing: border-box; font: inherit; }
.scroll { overflow-x: auto; }
@media (max-width: 40rem) { table { font-size: .85rem; } th, td { padding: .25rem .4rem; } }
"""


def html_page(title: str, markup: Sequence[str], *, style: str = "", script: str = "") -> str:
    """A whole page. ``style`` (CSS) follows the common style, and ``script`` (JavaScript) the parts of the body."""
    body = "\n".join([*markup, *([f"<script>\n{script}</script>"] if script else [])])
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(title)}</title>
<style>
{_STYLE}{style}</style>
</head>
<body>
<h1>{escaped(title)}</h1>
{body}
</body>
</html>
"""


def escaped(text: str) -> str:
    """Text as HTML, also for quoted attributes. Bytes of a file name that are not UTF-8 become ``\\udcff``."""
    return html.escape(text.encode(errors="backslashreplace").decode())


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text as HTML."""
    head = "".join(f"<th>{escaped(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def figure(source: str, caption: str) -> str:
    """A picture (a data URI) with a caption, which is also its alternative text."""
    text = escaped(caption)
    return f'<figure><img src="{escaped(source)}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def embedded_json(name: str, data: Any) -> str:
    """Data for the page's script: ``JSON.parse(document.getElementById(name).textContent)``. JSON has no NaN."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    # "</script>" in a label must not end the element; "<!--" must not begin a comment.
    text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return f'<script type="application/json" id="{escaped(name)}">{text}</script>'
