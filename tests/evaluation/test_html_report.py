"""report.html says what the summary says, lets no name out of its place, and works in a browser."""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.demo_cases import check_fits, chromium, requests_of
from helpers.evaluation_cases import ATS, DENSE, failed, results_of, scored
from helpers.page_elements import check_harmless

from video_ats.evaluation.claim import make_claims
from video_ats.evaluation.curve import svg_curve
from video_ats.evaluation.html_report import Pictures, report_page
from video_ats.evaluation.predictions import Prediction
from video_ats.evaluation.report import UNLABELLED, Report
from video_ats.evaluation.summary import summarise
from video_ats.runs.settings import Setting
from video_ats.tokens import SamplerConfig
from video_ats.visualize.pictures import jpeg_data_uri

NASTY = "</script><img src=x onerror=\"document.title='taken'\">&'|.mp4"
LABELS = ("abseiling", "<b>air</b> & 'drumming'", "zumba")
RANDOM = Setting("random-frame-matched:8", SamplerConfig("random", samples=8, matched=True), follows=ATS.name)
TUBE = Setting("ats-tube-k9", SamplerConfig("ats", "tube", samples=9, scheme="inverse"))
SETTINGS = (DENSE, ATS, RANDOM, TUBE)
BILLION = 1_000_000_000


def lines() -> list[Prediction]:
    """Six videos; ATS loses one of class 0 and wins one of class 1, and costs from 1 to 2."""
    found = []
    for number, (label, dense, ats) in enumerate([(0, 0, 0), (0, 0, 2), (0, 0, 0), (1, 2, 1), (1, 1, 1), (2, 2, 2)]):
        video = NASTY if number == 3 else f"v{number}"
        cheap = [BILLION // 2 + number * BILLION // 10] * 2
        for setting, guess, macs in (
            (DENSE, dense, [2 * BILLION] * 2),
            (ATS, ats, cheap),
            (RANDOM, 0, cheap),
            (TUBE, ats, [BILLION] * 2),
        ):
            others = [other for other in range(3) if other != guess]
            found.append(scored(video, label, setting.name, [guess, *others], macs=macs, view_top1=[guess, guess]))
    return [*found, failed(f"gone {NASTY}\udcff", 2, "truncated", "172 of 303 <frames>")]


def make_report(settings: tuple[Setting, ...] = SETTINGS, **changes: Any) -> Report:
    wanted = [p for p in lines() if p.setting is None or p.setting in {s.name for s in settings}]
    summary = summarise(results_of(wanted, settings), listed_labels=[0, 0, 0, 1, 1, 2, 2], dense_macs=2 * BILLION)
    claims, _ = make_claims(results_of(wanted, settings))
    run = {
        "model": {"name": "some_model", "num_classes": 400, "weights": f"{NASTY}.pyth (official)"},
        "videos": {"source": f"{NASTY}.csv"},
        "views": {"clips": 1, "crops": 2, "num_frames": 8},
    }
    report = Report(run, {"torch": "2.x"}, ("random <weights>",), settings, summary, LABELS, 2 * BILLION, claims, ())
    return replace(report, **changes)


def pictures() -> Pictures:
    """Of all videos but one."""
    picture = jpeg_data_uri(np.zeros((4, 6, 3), dtype=np.uint8))
    found = {p.video: picture for p in lines() if p.video != "v1"}
    return Pictures(found, found)


@pytest.fixture(scope="module")
def page() -> str:
    return report_page(make_report(), results_of(lines(), SETTINGS), ATS, pictures())


def data_of(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


# --- what it says


def test_every_setting_is_a_point_and_a_row_with_its_figures(page: str) -> None:
    summary = make_report().summary
    rows = re.findall(r'<tr data-place="(\d)" tabindex="0">(.*?)</tr>', page)
    points = set(re.findall(r'class="point" data-place="(\d)" tabindex="0" role="button" aria-label="([^"]+)"', page))
    assert points == {(str(place), setting.name) for place, setting in enumerate(SETTINGS)}
    for (place, row), s in zip(rows, summary.settings, strict=True):
        assert SETTINGS[int(place)].name == s.name
        cells = re.findall(r'<td data-sort="([^"]*)">([^<]*)</td>', row)
        assert cells[0] == (s.name, s.name)
        assert cells[1] == (str(s.top1.percent), f"{s.top1.percent:.1f}")
        assert cells[5] == (str(s.gflops_video.mean), f"{s.gflops_video.mean:.4g}")
        assert cells[7] == (str(s.relative_to_dense), f"{s.relative_to_dense:.3f}")


def test_points_stand_where_their_figures_are(page: str) -> None:
    places = {}
    for place, x, y in re.findall(r'data-place="(\d)".*?<use [^>]*x="([\d.]+)" y="([\d.]+)"', page, re.DOTALL):
        places[int(place)] = (float(x), float(y))
    settings = make_report().summary.settings
    for a in range(len(settings)):
        for b in range(len(settings)):
            cost = np.sign(settings[a].gflops_video.mean - settings[b].gflops_video.mean)
            accuracy = np.sign(settings[a].top1.percent - settings[b].top1.percent)
            if cost:
                assert np.sign(places[a][0] - places[b][0]) == cost
            else:  # beside one another
                assert abs(places[a][0] - places[b][0]) < 25
            assert np.sign(places[b][1] - places[a][1]) == accuracy  # down is less


def test_the_script_has_what_the_predictions_say(page: str) -> None:
    data = data_of(page)
    assert data["classes"] == [[LABELS[0], 3], [LABELS[1], 2], [LABELS[2], 1]]
    by_name = {each["name"]: each for each in data["settings"]}
    assert by_name["dense"]["correct"] == [3, 1, 1]
    assert by_name[ATS.name]["correct"] == [2, 2, 1]
    assert [each["dense"] for each in data["settings"]] == [True, False, False, False]
    assert data["shown"] == 1
    for each in data["settings"]:
        assert sum(each["counts"]) == 6
        assert len(each["edges"]) == len(each["counts"]) + 1
    assert (by_name[ATS.name]["edges"][0], by_name[ATS.name]["edges"][-1]) == (1.0, 2.0)


def test_claims_budget_notes_ends_and_failures_are_told(page: str) -> None:
    report = make_report(budget=("Budget of <half>.",))
    text = report_page(report, results_of(lines(), SETTINGS), ATS, pictures())
    for sentence in (*report.claims, *report.budget, *report.notes):
        assert html.escape(sentence) in text
    assert "1 of 7 listed videos could not be evaluated: 1 truncated." in text
    assert "172 of 303 &lt;frames&gt;" in text
    assert page.count("<figure>") == 6
    assert page.count("could not be read again") == 1
    shown = re.findall(r"<figcaption>(\S+): (\S+) GFLOPs", page.replace(html.escape(NASTY), "nasty"))
    cheapest, dearest = [("v0", "1"), ("v1", "1.2"), ("v2", "1.4")], [("v5", "2"), ("v4", "1.8"), ("nasty", "1.6")]
    assert shown == [*cheapest, *dearest]
    assert "v1: 1.2 GFLOPs, abseiling (taken for zumba)" in page
    merging = replace(ATS, sampler=SamplerConfig(samples=8, dropped="merged"))
    merged = report_page(report, results_of(lines(), SETTINGS), merging, pictures())
    for words, where in (("dropped patches are pale", page), ("merged into those with one: outlined", merged)):
        assert [words in other for other in (page, merged)] == [where is other for other in (page, merged)]
    assert "None: all 6 listed" in report_page(
        replace(report, summary=replace(report.summary, failures=[], listed=6)), results_of(lines(), SETTINGS)
    )


def test_no_name_leaves_its_place(page: str) -> None:
    assert "<img src=x" not in page
    assert "<b>air" not in page
    assert page.count("</script>") == 2  # the data and the page's own
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)  # within the page, or of the picture's own marks


def test_a_browser_finds_no_element_in_a_name(page: str) -> None:
    check_harmless(page, NASTY)


def test_without_evaluated_videos_there_are_the_failures_only() -> None:
    summary = summarise(results_of(lines()[-1:], SETTINGS), listed_labels=[2], dense_macs=BILLION)
    text = report_page(make_report(summary=summary, claims=()), results_of(lines()[-1:], SETTINGS))
    assert "truncated" in text
    assert "<script" not in text
    assert "curve" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_without_labels_the_page_is_about_agreement() -> None:
    unlabelled = [replace(line, label=None) for line in lines()]
    results = results_of(unlabelled, SETTINGS)
    summary = summarise(results, listed_labels=[None] * 7, dense_macs=2 * BILLION)
    page = report_page(make_report(summary=summary, claims=()), results, ATS, pictures())
    words = re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)
    assert UNLABELLED in html.unescape(words)
    words = words.replace(html.escape(UNLABELLED), "")
    assert not re.search(r"accura|correct|better|top-1 %|classes", words, re.IGNORECASE)
    assert "taken for abseiling" in words
    assert data_of(page)["classes"] == []
    assert data_of(page)["settings"][1]["tip"].startswith(f"{ATS.name}\nsame top-1 as dense 66.7 [")


def test_the_same_figures_give_the_same_picture() -> None:
    report = make_report()
    svg = svg_curve(report.settings, report.summary.settings)
    assert svg == svg_curve(report.settings, report.summary.settings)
    assert not re.search(r"matplotlib\.org|\d{4}-\d\d-\d\d|<metadata", svg)


# --- in a browser, whose driver's sockets are selenium's own affair

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def browser(page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(page, encoding="utf-8")
    with chromium(folder / "profile") as driver:
        driver.get((folder / "report.html").as_uri())
        yield driver


def test_it_loads_without_errors_or_requests(browser: Any) -> None:
    assert browser.title == "some_model: accuracy versus GFLOPs on 6 videos"  # not "taken"
    assert browser.get_log("browser") == []
    asked = [url for url in requests_of(browser) if not url.startswith("chrome")]  # the browser's own first tab
    assert [url.rpartition("/")[2] for url in asked] == ["report.html"]
    assert NASTY in browser.find_element("tag name", "body").text


@pytest.mark.parametrize("width", [420, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_part_is_wider_than_the_window_and_text_stands_out(browser: Any, width: int, scheme: str) -> None:
    check_fits(browser, width, scheme)
    mark = "return getComputedStyle(document.querySelector('svg.curve text')).fill"
    assert browser.execute_script(mark) == browser.execute_script("return getComputedStyle(document.body).color")
    assert browser.execute_script("return document.querySelector('#histogram svg').clientWidth") > 300


def video_rows(browser: Any) -> list[list[str]]:
    """Cells of the rows of the table of videos that can be seen."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#videos tbody tr')].filter((row) => row.offsetParent).map("
        "(row) => [...row.cells].map((cell) => cell.textContent))"
    )


def test_the_videos_are_searched_and_filtered(browser: Any) -> None:
    browser.find_element("xpath", f"//tr/td[.='{ATS.name}']").click()
    gone = f"gone {NASTY}".encode(errors="backslashreplace").decode() + "\\udcff"
    rows = video_rows(browser)
    assert rows[0][1:] == [gone, "truncated: 172 of 303 <frames>"]
    # Those whose answers differ, then the others in list order.
    assert [row[1] for row in rows[1:]] == ["v1", NASTY, "v0", "v2", "v4", "v5"]
    assert rows[1][2:] == [LABELS[0], LABELS[2], LABELS[0], "1.2", "wrong, differs"]
    assert rows[2][2:] == [LABELS[1], LABELS[1], LABELS[2], "1.6", "right, differs"]
    pictures = "return [...document.querySelectorAll('#videos tr')].map((row) => row.querySelectorAll('img').length)"
    assert browser.execute_script(pictures) == [0, 0, 0, 1, 1, 1, 1, 1]  # of v1 there is none
    search, choice = browser.find_element("id", "search"), browser.find_element("id", "filter")
    count = browser.find_element("id", "count")
    for wanted, names in {
        "wrong": ["v1"],
        "right": [NASTY, "v0", "v2", "v4", "v5"],
        "differs": ["v1", NASTY],
        "agrees": ["v0", "v2", "v4", "v5"],
        "failed": [gone],
    }.items():
        choice.find_element("css selector", f"option[value={wanted}]").click()
        assert [row[1] for row in video_rows(browser)] == names
        assert count.text == f"{len(names)} of 7 rows"
    choice.find_element("css selector", "option[value=right]").click()
    search.send_keys("V")
    assert [row[1] for row in video_rows(browser)] == ["v0", "v2", "v4", "v5"]
    # Another setting has other answers; the search stays.
    browser.find_element("xpath", "//tr/td[.='dense']").click()
    assert [row[1] for row in video_rows(browser)] == ["v1", "v0", "v2", "v4", "v5"]
    search.clear()
    search.send_keys("nobody")
    assert (video_rows(browser), count.text) == ([], "0 of 7 rows")
    search.clear()
    search.send_keys("v")
    choice.find_element("css selector", "option[value=all]").click()
    assert count.text == "5 of 7 rows"


def test_of_a_long_list_a_part_is_shown_and_the_rest_is_named() -> None:
    many = [scored(f"v{n}", 0, s.name, [n % 2, 2]) for n in range(2000) for s in (DENSE, ATS)]
    many += [failed(f"f{n}", 0) for n in range(500)]
    results = results_of(many, (DENSE, ATS))
    summary = summarise(results, listed_labels=[0] * 2500, dense_macs=BILLION)
    pictures = Pictures({}, {f"v{n}": jpeg_data_uri(np.zeros((96, 96, 3), dtype=np.uint8)) for n in range(2000)})
    page = report_page(make_report((DENSE, ATS), summary=summary), results, ATS, pictures)
    data = data_of(page)
    assert (len(data["videos"]), len(data["failures"]), len(data["thumbnails"])) == (300, 200, 60)
    assert "500 of 2500 videos: those that failed, then those whose answers differ" in page
    assert "The first 200 are shown, all are in report.json." in page
    assert data["videos"][:2] == ["v1", "v3"]  # wrong ones first
    assert len(page) < 300_000


def shown_names(browser: Any) -> list[str]:
    return [row.text for row in browser.find_elements("css selector", "#settings tbody td:first-child")]


def test_the_table_sorts_both_ways(browser: Any) -> None:
    settings = make_report().summary.settings
    for heading, figure in (("GFLOPs per video", "gflops_video.mean"), ("top-1 %", "top1.percent")):
        head = browser.find_element("xpath", f"//table[@id='settings']//th[.='{heading}']")
        group, name = figure.split(".")
        by_name = {s.name: getattr(getattr(s, group), name) for s in settings}
        for sign in (-1, 1):
            head.click()
            values = [by_name[each] for each in shown_names(browser)]
            assert values == sorted(values, key=lambda value: sign * value)
            assert head.get_attribute("aria-sort") == ("ascending" if sign == 1 else "descending")
    browser.find_element("xpath", "//table[@id='settings']//th[.='setting']").click()
    assert shown_names(browser) == sorted(s.name for s in settings)


def test_pointing_at_a_point_names_its_setting(browser: Any) -> None:
    from selenium.webdriver import ActionChains

    tip = browser.find_element("id", "tip")
    for place, s in enumerate(make_report().summary.settings):
        point = browser.find_element("css selector", f'.point[data-place="{place}"] .reach')
        ActionChains(browser).move_to_element(point).perform()
        assert tip.is_displayed()
        assert tip.text.splitlines()[0] == s.name
        assert f"top-1 {s.top1} %" in tip.text
        assert browser.find_element("css selector", "#settings tr.on td").text == s.name
    # Two that lie on one another are both named.
    browser.execute_script(
        'const [a, b] = document.querySelectorAll(\'.point[data-place="1"], .point[data-place="3"]\');'
        "b.innerHTML = a.innerHTML;"
    )
    moved = browser.find_element("css selector", '.point[data-place="3"] .reach')
    ActionChains(browser).move_to_element(moved).perform()
    assert [name for name in (ATS.name, TUBE.name) if name in tip.text] == [ATS.name, TUBE.name]
    ActionChains(browser).move_to_element(browser.find_element("tag name", "h1")).perform()
    assert not tip.is_displayed()


def test_a_point_is_reached_and_chosen_with_the_keyboard(browser: Any) -> None:
    from selenium.webdriver import Keys

    point = browser.find_element("css selector", '.point[data-place="2"]')
    assert point.get_attribute("aria-label") == RANDOM.name
    browser.execute_script("arguments[0].focus()", point)
    assert RANDOM.name in browser.find_element("id", "tip").text
    point.send_keys(Keys.ENTER)
    assert browser.find_element("id", "chosen").get_attribute("value") == "2"
    browser.execute_script("arguments[0].blur()", point)


def classes_of(browser: Any) -> list[list[str]]:
    rows = browser.find_elements("css selector", "#classes tbody tr")
    return [[cell.text for cell in row.find_elements("tag name", "td")[:5]] for row in rows]


def test_a_chosen_setting_shows_its_classes_and_costs(browser: Any) -> None:
    row = browser.find_element("xpath", f"//tr/td[.='{ATS.name}']")
    row.click()
    assert browser.find_element("id", "chosen").get_attribute("value") == "1"
    assert classes_of(browser) == [
        [LABELS[0], "3", "100.0", "66.7", "-33.3"],
        [LABELS[2], "1", "100.0", "100.0", "0.0"],
        [LABELS[1], "2", "50.0", "100.0", "+50.0"],
    ]
    bars = browser.find_elements("css selector", "#histogram rect title")
    counts = [int(bar.get_attribute("textContent").split()[0]) for bar in bars]
    assert (sum(counts), max(counts)) == (6, 1)
    browser.find_element("xpath", "//tr/td[.='dense']").click()
    assert {row[4] for row in classes_of(browser)} == {"0.0"}
    assert browser.get_log("browser") == []
