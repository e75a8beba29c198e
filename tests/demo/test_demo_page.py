"""demo.html holds everything itself, escapes what it shows, and works in a real browser."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.demo_cases import check_fits, chromium, make_shown, requests_of
from helpers.page_elements import check_harmless

from video_ats.demo.show import demo_page
from video_ats.visualize.pictures import data_uri, draw_patches, png_bytes

NASTY = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>\"&"
SIDE = 24


def page(**changes: object) -> str:
    others = {"other": make_shown(title="other", seed=1, blocks=(2,)), "merging": make_shown(merges=True)}
    shown = {name: square(one) for name, one in {NASTY: make_shown(title=NASTY), **others}.items()}
    plot = data_uri(png_bytes(np.zeros((4, 4, 3), dtype=np.uint8)))
    return demo_page(NASTY, [NASTY], shown, [(NASTY, [NASTY], [[NASTY]])], plot)


def square(shown):
    return replace(shown, pictures=shown.pictures[:, :SIDE, :SIDE])


def data_of(text: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', text, flags=re.DOTALL)[1])


def test_names_and_labels_are_escaped() -> None:
    text = page()
    assert "<img src=x" not in text
    assert text.count("<script") == 2  # the data and the page's own
    assert data_of(text)["settings"][0]["name"] == NASTY


def test_a_browser_finds_no_element_in_a_name() -> None:
    check_harmless(page(), NASTY)


def test_the_data_say_what_was_kept() -> None:
    shown = make_shown()
    data = data_of(demo_page("t", [], {"one": shown}, [("h", ["a"], [["b"]])], None))
    (setting,) = data["settings"]
    for (block, scores), found in zip(shown.scores.items(), setting["blocks"], strict=True):
        for t in range(3):
            kept = np.array([mark == "1" for mark in found["marks"][t]]).reshape(4, 5)
            assert (kept == shown.kept[block, t]).all()
            marks = [found["scores"][t][place : place + 2] for place in range(0, 40, 2)]
            assert [mark == "--" for mark in marks] == np.isnan(scores[t]).ravel().tolist()
            assert found["counts"][t] == kept.sum()


def test_many_frames_are_thinned_to_what_a_screen_shows() -> None:
    data = data_of(demo_page("t", [], {"one": make_shown(frames=96)}, [("h", ["a"], [["b"]])], None))
    assert len(data["frames"]) == len(data["times"]) == 16
    assert (data["times"][0], data["times"][-1]) == ("frame 0", "frame 95")


def pixels(driven) -> list:
    """Of the first frame as the browser shows it: red, green, blue and opacity of each pixel."""
    script = "const c = document.querySelector('canvas'), side = c.width;"
    return driven.execute_script(script + "return [...c.getContext('2d').getImageData(0, 0, side, side).data]")


def move(driven, slider: str, value: int) -> None:
    script = (
        "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('input'))"
    )
    driven.execute_script(script, slider, value)


def text_of(driven, name: str) -> str:
    return driven.execute_script("return document.getElementById(arguments[0]).textContent", name)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # selenium's own sockets
def test_in_a_real_browser(tmp_path: Path) -> None:
    path = tmp_path / "demo #1.html"
    path.write_text(page(), encoding="utf-8")
    with chromium(tmp_path / "profile") as driven:
        driven.get(path.as_uri())
        for _ in range(100):
            if driven.execute_script("return document.body.dataset.ready") == "yes":
                break
        assert driven.execute_script("return document.body.dataset.ready") == "yes"
        assert driven.title == NASTY  # nothing in it ran
        assert text_of(driven, "block-name").startswith("after block 2: ")

        move(driven, "block", 0)
        whole = pixels(driven)
        assert text_of(driven, "block-name") == "input, all patches"
        seen = {tuple(whole)}
        for setting, blocks in ((0, (1, 2)), (1, (1,)), (2, (1, 2))):
            move(driven, "setting", setting)
            for block in blocks:
                move(driven, "block", block)
                seen.add(tuple(pixels(driven)))
        assert len(seen) == 6  # input and five others

        assert text_of(driven, "block-name").endswith("have a token; the others are merged into these")
        assert driven.execute_script("return document.querySelector('input[value=scores]').disabled")
        shown = square(make_shown(merges=True))
        merged = draw_patches(shown.pictures, shown.stands[2])[0]
        own = (merged == shown.pictures[0]).all(axis=2, keepdims=True)  # of these, the page has a JPEG
        expected = np.where(own, np.array(whole).reshape(SIDE, SIDE, 4)[..., :3], merged)
        assert 0 < own.mean() < 0.5
        assert np.abs(np.array(pixels(driven)).reshape(SIDE, SIDE, 4)[..., :3] - expected).max() <= 1

        move(driven, "setting", 0)
        move(driven, "block", 1)
        shown = square(make_shown(title=NASTY))
        picture = np.array(whole, dtype=np.uint8).reshape(SIDE, SIDE, 4)[..., :3]
        faded = np.array(pixels(driven)).reshape(SIDE, SIDE, 4)[..., :3]
        drawn = draw_patches(picture[None], shown.stands[1, :1])[0]
        assert np.abs(faded - drawn.astype(int)).max() <= 1

        before = pixels(driven)
        driven.execute_script("document.querySelector('input[value=scores]').click()")
        assert pixels(driven) != before

        move(driven, "block", 2)
        move(driven, "setting", 1)  # samples in one block only: the slider must not point behind it
        assert text_of(driven, "block-name").startswith("after block 2: ")
        for width in (420, 1280):
            for scheme in ("light", "dark"):
                check_fits(driven, width, scheme)
        assert requests_of(driven) == [path.as_uri()]
        assert driven.get_log("browser") == []
