"""Label lists in every form, and names to indices."""

import json

import pytest

from video_ats.video.lists.label_names import is_mirror_safe, known_names, load_label_list, load_label_names
from video_ats.video.lists.numbering import number_names

NAMES = ("abseiling", "air drumming", "massaging person's head")


def numbers(written, names):
    return number_names(written, [f"line {number}" for number in range(len(written))], names, None)[0]


@pytest.mark.parametrize(
    "text",
    [
        "abseiling\nair drumming\nmassaging person's head\n",
        "abseiling\nair drumming\nmassaging person's head\n\n\n",
        "\ufeffabseiling\r\nair drumming\r\nmassaging person's head",
        '"abseiling"\n"air drumming"\n"massaging person\'s head"\n',
        "0 abseiling\n1 air drumming\n2 massaging person's head\n",
        "0\tabseiling\n1\tair drumming\n2\tmassaging person's head\n",
        "1,air drumming\n0,abseiling\n2,massaging person's head\n",
        "id,name\n0,abseiling\n1,air drumming\n2,massaging person's head\n",
        "abseiling,0\nair drumming,1\nmassaging person's head,2\n",
        '"air drumming", 1\nabseiling, 0\n"massaging person\'s head", 2\n',
        "abseiling 0\nair drumming 1\nmassaging person's head 2\n",
        json.dumps({name: index for index, name in enumerate(NAMES)}),
        json.dumps({str(index): name for index, name in enumerate(NAMES)}),
        json.dumps({name: str(index) for index, name in enumerate(NAMES)}),  # Something-Something
        json.dumps({f'"{name}"': index for index, name in enumerate(NAMES)}, indent=1),
    ],
)
def test_every_form_gives_the_same_names(tmp_path, text):
    (tmp_path / "names").write_text(text, encoding="utf-8", newline="")
    assert load_label_names(str(tmp_path / "names")) == NAMES


def test_names_with_commas_and_numbers_stay_whole(tmp_path):
    text = "tipping something over, so something falls\nrunning 100 meters\nlifting\nlevel 1\n"
    (tmp_path / "names").write_text(text)
    assert load_label_names(str(tmp_path / "names")) == tuple(text.splitlines())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("abseiling\nabseiling\n", "classes 0 .* and 1 .* same name"),
        ("air drumming\nair_drumming\n", "classes 0 .* and 1 .* same name"),
        ("abseiling\n\nyoga\n", "no name for class 1"),
        ("0 abseiling\n0 yoga\n", "index 0 to 'abseiling' and 'yoga'"),
        ("0 abseiling\n2 yoga\n", "indices 0 to 2; .* without gaps"),
        ("2 abseiling\n3 yoga\n", "indices 2 to 3; .* from 0, or from 1"),
        ("0 abseiling\n1 yoga\nzumba\n", "line 3 has no index"),
        ("abseiling 0\nyoga 1\nzumba\n", "line 3 has no index"),
        ("id,name\nabseiling\n", "header"),
        ('{"abseiling": 0, "abseiling": 1}', "same name"),
        ('{"0": "abseiling", "0": "yoga"}', "index 0 to 'abseiling' and 'yoga'"),
        ('{"abseiling": 0, "yoga": 2}', "without gaps"),
        ('{"abseiling": true}', "not a JSON object like"),
        ('{"abseiling": "yoga"}', "not a JSON object like"),
        ('{"0": "1", "1": "0"}', "not a JSON object like"),
        ('{"0": {"name": "abseiling"}}', "not a JSON object like"),
        ("{}", "0 names"),
        ('{"abseiling": 0', "not valid JSON"),
        ("a\0b", "not UTF-8 text"),
    ],
)
def test_errors_of_label_lists_are_one_line(tmp_path, text, message):
    (tmp_path / "names").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_label_names(str(tmp_path / "names"))
    assert "\n" not in str(error.value)


def test_a_json_list_of_names(tmp_path):
    (tmp_path / "names.json").write_text('["abseiling", "yoga"]')
    assert load_label_list(str(tmp_path / "names.json")) == (("abseiling", "yoga"), 0)
    (tmp_path / "names.json").write_text('["abseiling", 1]')
    with pytest.raises(ValueError, match="not a JSON object like"):
        load_label_names(str(tmp_path / "names.json"))


@pytest.mark.parametrize(
    "text", ["1 Apply\n2 Band\n", "1,Apply\r\n2,Band\r\n", '{"Apply": 1, "Band": "2"}'.replace('"2"', "2")]
)
def test_a_list_that_starts_at_1_says_so(tmp_path, text):
    (tmp_path / "classInd").write_text(text, newline="")
    assert load_label_list(str(tmp_path / "classInd")) == (("Apply", "Band"), 1)


@pytest.mark.parametrize("header", ["id,name", "name", "class", "Label", "class_id\tclass_name", "# comment"])
def test_names_of_columns_are_no_class(tmp_path, header):
    separator = "\t" if "\t" in header else ","
    rows = [f"{i}{separator}{name}" if separator in header else name for i, name in enumerate(("abseiling", "yoga"))]
    (tmp_path / "names").write_text("\n".join([header, *rows]))
    assert load_label_names(str(tmp_path / "names")) == ("abseiling", "yoga")


def test_the_encoding_of_a_label_list(tmp_path):
    (tmp_path / "names").write_bytes("caf\xe9\nyoga\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"line 1 is not UTF-8; pass --data\.encoding"):
        load_label_names(str(tmp_path / "names"))
    assert load_label_list(str(tmp_path / "names"), "latin-1").names == ("caf\xe9", "yoga")
    with pytest.raises(ValueError, match=r"data\.encoding 'klingon': not known"):
        load_label_list(str(tmp_path / "names"), "klingon")


def test_missing_label_list_and_folder(tmp_path):
    lists = "neither 'kinetics400' nor 'kinetics600' nor 'mini_kinetics' nor 'moving_fashion' nor an existing"
    with pytest.raises(FileNotFoundError, match=lists):
        load_label_names("kinetics700")
    with pytest.raises(ValueError, match="is a folder"):
        load_label_names(str(tmp_path))


@pytest.mark.parametrize(
    ("labels", "count", "first", "last"),
    [
        ("kinetics400", 400, "abseiling", "zumba"),
        ("kinetics600", 600, "abseiling", "zumba"),
        ("mini_kinetics", 16, "bouncing up and down", "zigzagging"),
        ("moving_fashion", 10, "T-shirt or top", "trouser"),
    ],
)
def test_shipped_lists(labels, count, first, last):
    names = load_label_names(labels)
    assert len(names) == count
    assert (names[0], names[-1]) == (first, last)
    assert list(names) == sorted(names)
    # the spelling with underscores must stay free of collisions and lead back to the same index
    assert numbers([name.replace(" ", "_") for name in names], names) == list(range(count))


@pytest.mark.parametrize("written", ["air drumming", "air_drumming", ' "air drumming" ', "'air_drumming'"])
def test_numbers_ignore_spelling_but_not_case(written):
    assert numbers([written], NAMES) == [1]


def test_numbers_keep_names_that_differ_in_case():
    names = load_label_names("kinetics600")
    written = ["passing American football (in game)", "passing_american_football_(not_in_game)"]
    assert numbers(written, names) == [308, 309]
    with pytest.raises(ValueError, match="nearest: 'passing American football"):
        numbers(["passing american football (in game)"], names)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"'Abseilin' is not one of the 3 class names \(nearest: 'abseiling'"):
        numbers(["Abseilin"], NAMES)


def test_num_classes_must_be_the_length_of_the_list():
    assert known_names(None, 400) is None
    assert known_names("kinetics400", 400) == load_label_list("kinetics400")
    with pytest.raises(ValueError, match="'kinetics400' has 400 names but num_classes is 600"):
        known_names("kinetics400", 600)
    with pytest.raises(ValueError, match="num_classes is 0"):
        known_names(None, 0)


def test_a_mirror_image_changes_classes_of_the_mini_kinetics_only():
    mini = load_label_names("mini_kinetics")
    assert not is_mirror_safe(mini)
    assert not is_mirror_safe([name.replace(" ", "_") for name in reversed(mini)])
    assert is_mirror_safe(None)
    assert is_mirror_safe(NAMES)
    assert is_mirror_safe(load_label_names("kinetics400"))
    assert is_mirror_safe(load_label_names("kinetics600"))
