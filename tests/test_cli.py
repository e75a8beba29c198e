"""From YAML and the command line to a typed configuration, and from mistakes to one line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from video_ats.benchmarking.configuration import CountConfig
from video_ats.cli import describe_error, parse_config, run_tool
from video_ats.demo.configuration import DemoConfig
from video_ats.evaluation.check import CheckConfig
from video_ats.evaluation.configuration import EvaluateConfig
from video_ats.mini_kinetics import MiniKineticsConfig
from video_ats.runs.options import ViewsConfig
from video_ats.runs.settings import SweepConfig
from video_ats.tokens import SamplerConfig
from video_ats.training.configuration import TrainConfig
from video_ats.video.source import DataConfig


@dataclass(frozen=True)
class Inner:
    """Nested keys.

    Attributes:
        depth: how deep.
        colour: one of two.
    """

    depth: int = 1
    colour: Literal["red", "green"] = "red"

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise ValueError(f"inner.depth {self.depth}: must be at least 0")


@dataclass(frozen=True)
class Outer:
    """Keys.

    Attributes:
        name: required.
        amounts: a list.
        inner: nested.
    """

    name: str
    amounts: list[int | None] = field(default_factory=list)
    inner: Inner = field(default_factory=Inner)


def parse(*arguments: str) -> Outer:
    return parse_config(Outer, "A tool.", arguments)


def message_of(*arguments: str, config: type = Outer) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        parse_config(config, "A tool.", arguments)
    said = describe_error(error.value)
    assert "\n" not in said
    return said


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    path = tmp_path / "some.yaml"
    path.write_text("name: file\namounts: [1, null]\ninner:\n  depth: 5\n")
    return path


def test_defaults() -> None:
    assert parse("--name", "a") == Outer("a", [], Inner(1, "red"))


def test_a_file_fills_the_configuration(yaml: Path) -> None:
    assert parse("--config", str(yaml)) == Outer("file", [1, None], Inner(5, "red"))


def test_the_command_line_wins_over_the_file(yaml: Path) -> None:
    parsed = parse("--config", str(yaml), "--name", "b", "--inner.colour", "green", "--amounts", "[2]")
    assert parsed == Outer("b", [2], Inner(5, "green"))


def test_the_process_s_own_command_line_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["tool", "--name", "mine"])
    assert parse_config(Outer, "A tool.") == Outer("mine")


def test_samplers_are_parsed_into_their_class(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "{model: m, output: o, samplers: [{kind: topk, samples: 5}, {scope: tube, blocks: [1, 2], samples: [9, 8]}]}"
    )
    parsed = parse_config(EvaluateConfig, "", ["--config", str(tmp_path / "run.yaml")])
    assert parsed.samplers == [
        SamplerConfig("topk", samples=5),
        SamplerConfig(scope="tube", blocks=(1, 2), samples=(9, 8)),
    ]


@pytest.mark.parametrize(
    ("arguments", "unknown", "nearest"),
    [
        (["--name", "a", "--nmae", "b"], "nmae", "name"),
        (["--name", "a", "--ammounts", "[1]"], "ammounts", "amounts"),
        (["--name", "a", "--inner.dept", "3"], "inner.dept", "inner.depth"),
        (["--name", "a", "--iner.depth", "3"], "iner.depth", "inner.depth"),
        (["--name", "a", "--inner", "{clour: red}"], "clour", "inner.colour"),
    ],
)
def test_an_unknown_key_on_the_command_line_names_the_nearest(arguments: list[str], unknown: str, nearest: str) -> None:
    message = message_of(*arguments)
    assert unknown in message
    assert message.endswith(f"; did you mean {nearest}?")


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("nmae: b\n", "nmae", "name"),
        ("name: a\namount: [1]\n", "amount", "amounts"),
        ("name: a\ninner:\n  dpth: 3\n", "dpth", "inner.depth"),
        ("name: a\niner:\n  depth: 3\n", "iner", "inner.depth"),
    ],
)
def test_an_unknown_key_in_a_file_names_the_nearest(tmp_path: Path, text: str, unknown: str, nearest: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    message = message_of("--config", str(tmp_path / "bad.yaml"))
    assert unknown in message
    assert message.endswith(f"; did you mean {nearest}?")


@pytest.mark.parametrize(
    ("arguments", "samples"),
    [("32", [32]), ("null", [None]), ("[32]", [32]), ("[null, 8]", [None, 8])],
)
def test_a_value_that_is_no_list_stands_for_a_list_of_one(tmp_path: Path, arguments: str, samples: list[int]) -> None:
    parsed = parse_config(EvaluateConfig, "", ["--output", "o", "--sweep.samples", arguments])
    assert parsed.sweep.samples == samples
    text = f"{{output: o, samplers: {{kind: topk, samples: 5}}, sweep: {{samples: {arguments}}}}}"
    (tmp_path / "run.yaml").write_text(text)
    parsed = parse_config(EvaluateConfig, "", ["--config", str(tmp_path / "run.yaml")])
    assert (parsed.sweep.samples, parsed.samplers) == (samples, [SamplerConfig("topk", samples=5)])


def test_a_single_value_of_a_list_is_as_strict_as_a_list() -> None:
    assert parse_config(CheckConfig, "", ["--output", "[1]"]).output == "[1]"
    assert parse_config(MiniKineticsConfig, "", ["--output", "o", "--splits", "train"]).splits == ["train"]
    for words in (["--splits", "[1, 2]"], ["--splits", "1"], ["--splits", "{a: b}"]):
        assert message_of("--output", "o", *words, config=MiniKineticsConfig).startswith("splits")
    message = message_of("--output", "o", "--samplers", "{samples: x}", config=EvaluateConfig)
    assert message == "samplers[0].samples: must be of type int or list of int or null. Got value: x"
    assert parse_config(EvaluateConfig, "", ["--output", "o", "--sweep.blocks", "null"]).sweep.blocks is None


@pytest.mark.parametrize(
    ("config", "key", "meant"),
    [
        (EvaluateConfig, "k", "sweep.samples"),
        (EvaluateConfig, "K", "sweep.samples"),
        (DemoConfig, "num_samples", "sweep.samples"),
        (EvaluateConfig, "sweep.k", "sweep.samples"),
        (CountConfig, "k", "samples"),
        (TrainConfig, "K", "sampler.samples"),
        (TrainConfig, "lr", "optimiser.lr"),
        (TrainConfig, "workers", "train.num_workers"),
        (EvaluateConfig, "weights", "checkpoint"),
    ],
)
def test_a_key_of_another_name_is_answered_with_the_one_that_is_meant(config: type, key: str, meant: str) -> None:
    assert (
        message_of("--output", "o", f"--{key}", "8", config=config) == f"key {key!r}: not known; did you mean {meant}?"
    )


def test_an_unknown_key_of_a_sampler_names_the_sampler_s_nearest() -> None:
    arguments = ["--model", "m", "--output", "o", "--samplers", "[{sampels: 3}]"]
    message = message_of(*arguments, config=EvaluateConfig)
    assert message == "key 'samplers[0].sampels': not known; did you mean samplers[0].samples?"


def test_a_key_like_no_other_lists_all() -> None:
    assert message_of("--name", "a", "--xyzzy", "1").endswith("; the keys are amounts, inner.colour, inner.depth, name")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: name"),
        (["--name", "a", "--inner.depth", "x"], "inner.depth: must be of type int. Got value: x"),
        (["--name", "a", "--inner.depth", "1.5"], "inner.depth: must be of type int. Got value: 1.5"),
        (["--name", "a", "--inner.colour", "blue"], "inner.colour: must be one of 'red', 'green'. Got value: blue"),
        (["--name", "a", "--amounts", "x"], "amounts: must be of type list of int or null. Got value: x"),
        (["--name", "a", "--amounts", "[1, b]"], "amounts[1]: must be of type int or null. Got value: b"),
        (["--name", "a", "--amounts", "[1"], "amounts: "),
        (["--name", "a", "--inner.depth", "-1"], "inner.depth -1: must be at least 0"),
        (["--name"], "--name: expected one argument"),
        (["--name", "a", "--inner", "3"], "inner: must be of type mapping. Got value: 3"),
        (["--config", "gone.yaml"], "config gone.yaml: No such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_value_that_does_not_fit_is_one_line_that_names_it(arguments: list[str], said: str) -> None:
    assert said in message_of(*arguments)


@pytest.mark.parametrize("text", ["name: [\n", "- a\n", "", "name: a\n\tinner: 3\n", "\0"])
def test_a_file_that_is_no_configuration_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert message_of("--config", str(tmp_path / "bad.yaml"))


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for words in ("A tool.", "--name", "--amounts", "--inner.depth", "how deep", "one of two"):
        assert words in out


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Keys of several commands.

    Attributes:
        first, second: two of a kind,
            on two lines.
    """

    first: float = 0.5
    second: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Child(Shared):
    """Keys of one command.

    Attributes:
        inner: may be missing.
        either: a count, counts or a word.
        counts: any number.

    Returns:
        nothing: of the sort.
    """

    inner: Inner | None = None
    either: int | Sequence[int] | str | None = None
    counts: tuple[int, ...] = ()


def test_keys_inside_a_list_are_explained_but_not_words_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_config(EvaluateConfig, "", ["--help"])
    assert re.search(r"^  samplers\[\]\.kind \(one of 'ats', ", capsys.readouterr().out, flags=re.MULTILINE)
    message = message_of("--model", "m", "--output", "o", "--samplers[].kind", "ats", config=EvaluateConfig)
    assert message.startswith("key 'samplers[].kind': not known; ")


def test_help_has_the_texts_of_inherited_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_config(Child, "A tool.", ["-h"])
    out = capsys.readouterr().out
    for key in ("first (float; default: 0.5)", "second ([int, int] or null; default: null)"):
        assert f"  --{key}\n      two of a kind, on two lines.\n" in out
    assert "  --inner.depth (int; default: 1)\n      how deep.\n" in out


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ([], {}),
        (["--first", "2"], {"first": 2.0}),
        (["--first", "1e-4"], {"first": 0.0001}),
        (["--second", "[1, 2]"], {"second": (1, 2)}),
        (["--inner", "{depth: 2}", "--inner.colour", "green"], {"inner": Inner(2, "green")}),
        (["--inner.depth", "2", "--inner", "null"], {}),
        (["--counts", "[1, 2, 3]"], {"counts": (1, 2, 3)}),
        (["--counts", "3"], {"counts": (3,)}),
        (["--either", "8"], {"either": 8}),
        (["--either", "[8, 9]"], {"either": [8, 9]}),
        (["--either", "matched: 8 # s"], {"either": "matched: 8 # s"}),
        (["--either=[8"], {"either": "[8"}),
        (["--either", "~"], {}),
        (["--either", "2020-01-01"], {"either": "2020-01-01"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_values_on_the_command_line_are_yaml_or_text(arguments: list[str], values: dict[str, Any]) -> None:
    parsed = parse_config(Child, "", arguments)
    assert parsed == Child(**values)
    assert type(parsed.first) is float


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--first", "true"], "first: must be of type float. Got value: true"),
        (["--first", "1" + 400 * "0"], "first: must be of type float. Got value: 1000"),
        (["--second", "[1]"], "second: must be of type [int, int] or null. Got value: [1]"),
        (["--second", "[1, x]"], "second[1]: must be of type int. Got value: x"),
        (["--inner.depht", "2"], "key 'inner.depht': not known; did you mean inner.depth?"),
        (["--inner.depth", "null"], "inner.depth: must be of type int. Got value: null"),
        (["--inner", "3"], "inner: must be of type mapping or null. Got value: 3"),
        (["--counts", "x"], "counts: must be of type list of int. Got value: x"),
        (["--counts", "null"], "counts: must be of type list of int. Got value: null"),
        (["--first", "--second"], "--first: expected one argument"),
    ],
    ids=lambda value: " ".join(value)[:20] if isinstance(value, list) else "",
)
def test_a_wrong_value_names_its_place_and_type(arguments: list[str], said: str) -> None:
    assert message_of(*arguments, config=Child).startswith(said)


def test_a_key_changes_one_value_of_the_default_of_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    parsed = parse_config(DemoConfig, "", ["--sweep.scopes", "[tube]"])
    assert parsed.sweep == replace(DemoConfig().sweep, scopes=["tube"])
    with pytest.raises(SystemExit):
        parse_config(DemoConfig, "", ["--help"])
    told = "--sweep.samples (one of 'recommended' or list of int or null; default: recommended)"
    assert told in capsys.readouterr().out


def test_a_key_of_a_file_may_be_written_with_a_dot_and_the_order_of_the_words_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "dotted.yaml").write_text("name: file\ninner.depth: 7\n")
    assert parse("--name", "b", "--config", str(tmp_path / "dotted.yaml")) == Outer("b", [], Inner(7))


def failing(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("two\n  lines"), 2, "error: two lines\n"),
        (FileNotFoundError("list 'a' does not exist"), 2, "error: list 'a' does not exist\n"),
        (PermissionError(13, "Permission denied", "out/x"), 2, "error: out/x: Permission denied\n"),
        (OSError(28, "No space left on device"), 2, "error: [Errno 28] No space left on device\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_a_tool_ends_with_one_line_and_a_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_tool(lambda: failing(error))
    assert stop.value.code == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1)])
def test_a_tool_ends_with_what_main_returns(result: int | None, code: int) -> None:
    with pytest.raises(SystemExit) as stop:
        run_tool(lambda: result)
    assert stop.value.code == code


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: failing(ZeroDivisionError()))


@dataclass(frozen=True)
class Words:
    """Keys.

    Attributes:
        words: may stand by themselves.
        name: a key.
    """

    words: list[str] = field(default_factory=list)
    name: str = "n"


@pytest.mark.parametrize(
    ("arguments", "words", "name"),
    [
        ([], [], "n"),
        (["a", "b"], ["a", "b"], "n"),
        (["a", "--name", "x", "b"], ["a", "b"], "x"),
        (["--name=x", "a"], ["a"], "x"),
        (["-abc_0.mp4", "--name", "x"], ["-abc_0.mp4"], "x"),
        (["--name", "x", "--", "--name", "y"], ["--name", "y"], "x"),
        (["--words", "[a, b]"], ["a", "b"], "n"),
        (["[a]", "null", "é\udcff"], ["[a]", "null", "é\udcff"], "n"),
    ],
)
def test_words_by_themselves_are_the_values_of_a_key(arguments: list[str], words: list[str], name: str) -> None:
    assert parse_config(Words, "", arguments, positional="words") == Words(words, name)


def test_words_by_themselves_are_refused_where_no_key_takes_them() -> None:
    assert "stray" in message_of("--name", "a", "stray")


def test_mistakes_beside_words_are_one_line() -> None:
    for arguments in (["a", "--nmae", "x"], ["a", "--name"]):
        with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
            parse_config(Words, "", arguments, positional="words")


@pytest.mark.parametrize("config", [EvaluateConfig, CheckConfig, DemoConfig])
def test_every_key_is_documented(config: type) -> None:
    nested = {DataConfig, ViewsConfig, SweepConfig, SamplerConfig}
    for documented in {config, *nested}:
        told = "\n".join(each.__doc__ or "" for each in documented.__mro__)
        for key in fields(documented):
            assert re.search(rf"\b{key.name}(, \w+)*: ", told), (documented, key.name)


def test_a_key_that_is_true_or_false_may_stand_alone() -> None:
    @dataclass
    class Switched:
        """One of each.

        Attributes:
            on: a switch.
            words: positional.
        """

        on: bool = False
        words: list[str] = field(default_factory=list)

    def parsed(*arguments: str) -> Switched:
        return parse_config(Switched, "", arguments, positional="words")

    assert parsed("--on", "a.mp4") == Switched(True, ["a.mp4"])
    assert parsed("a.mp4", "--on") == Switched(True, ["a.mp4"])
    assert parsed("--on", "false", "a.mp4") == Switched(False, ["a.mp4"])
    assert parsed("--on=false") == Switched(False)
