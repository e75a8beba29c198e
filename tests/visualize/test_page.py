"""What others wrote stays text, and pictures are part of the page."""

import base64
import html
import io
import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from video_ats.visualize.page import embedded_json, escaped, figure, html_page, table
from video_ats.visualize.pictures import data_uri, jpeg_data_uri, png_bytes

NASTY = "</script><script>alert('x')</script>\"&<!--"
PICTURE = np.random.default_rng(0).integers(0, 255, (6, 5, 3), dtype=np.uint8)


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_text_is_escaped_wherever_it_stands() -> None:
    page = html_page(NASTY, [table([NASTY], [[NASTY]]), figure("data:,", NASTY)])
    assert "<script" not in page
    assert page.count(html.escape(NASTY)) == 6  # window title, heading, header cell, cell, alt, caption


def test_data_cannot_leave_its_element_and_comes_back_whole() -> None:
    data = {NASTY: [NASTY, 1.5, None]}
    element = embedded_json("data", data)
    inside = element[element.index(">") + 1 : element.rindex("</script>")]
    assert "<" not in inside
    assert json.loads(inside) == data


def test_data_without_a_form_in_json_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded_json("data", float("nan"))


def test_file_names_that_are_not_utf8_can_be_written() -> None:
    assert escaped(os.fsdecode(b"a\xff<.mp4")) == "a\\udcff&lt;.mp4"
    html_page(os.fsdecode(b"\xff"), []).encode()


def test_a_page_allows_no_network_and_runs_its_script_last() -> None:
    page = html_page("t", ["<p>x</p>"], style="p { color: red }", script="1 < 2;")
    assert "default-src 'none'" in page
    assert "p { color: red }" in page
    assert page.index("<p>x</p>") < page.index("<script>\n1 < 2;</script>")
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)


def test_pictures_survive_as_data_uris() -> None:
    uri = data_uri(png_bytes(PICTURE))
    assert uri.startswith("data:image/png;base64,")
    assert (decoded(uri) == PICTURE).all()


def test_photographs_survive_nearly() -> None:
    smooth = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    uri = jpeg_data_uri(smooth)
    assert uri.startswith("data:image/jpeg;base64,")
    assert np.abs(decoded(uri).astype(int) - smooth).max() < 12
