"""docs/quality.md says what the program does."""

from __future__ import annotations

import argparse
import dataclasses
import re

import pytest
from sample_analysis import sample_analysis
from servers import REPOSITORY
from softloss.quality import AnalysisOptions, _cli, analyze
from softloss.quality._definitions import DEFINITIONS
from softloss.quality._limits import AGREEMENT_METRICS, ANNOTATOR_METRICS
from softloss.quality._native import analyze as analyze_columns
from softloss.quality._reader import read_votes

VOTES = {
    "item": [i for i in range(40) for _ in range(3)],
    "annotator": list("abc") * 40,
    "label": ["xyz"[(i * i + (r == 2)) % 3] for i in range(40) for r in range(3)],
    "time": list(range(120)),
}
PREDICTIONS = {str(i): [0.2, 0.3, 0.5] for i in range(40)}


@pytest.fixture(scope="module")
def text() -> str:
    return (REPOSITORY / "docs" / "quality.md").read_text()


def test_every_definition_is_there(text: str) -> None:
    for definition in DEFINITIONS.values():
        written = text.replace("\\|", "|")
        assert f"| {definition.title} | {definition.text} |" in written
        assert definition.formula in written


def test_every_flag_of_the_command_is_there_with_its_default(text: str) -> None:
    parser = argparse.ArgumentParser()
    _cli.add_command(parser.add_subparsers())
    (command,) = parser._subparsers._group_actions[0].choices.values()
    flags = {flag for action in command._actions for flag in action.option_strings}
    described = set(re.findall(r"(--[a-z][a-z-]*)", text)) - {"--quality"}
    assert described <= flags, described - flags
    for name in ("min_agreement", "spammer_score", "collapse_share", "collapse_excess"):
        default = getattr(AnalysisOptions(), name)
        assert f"`--{name.replace('_', '-')}` {default:g}" in text
    assert f"`--min-votes` ({AnalysisOptions().min_votes:g})" in text
    for metric in (*AGREEMENT_METRICS, *ANNOTATOR_METRICS):
        assert f"`{metric}`" in text


def schema(text: str) -> dict[str, str]:
    section = text.split("## The JSON")[1].split("## The columns")[0]
    rows = re.findall(r"^\| (`.+?) \| (.+) \|$", section, re.M)
    return {name: row[1] for row in rows for name in re.findall(r"`(\w+)`", row[0])}


def test_every_key_of_the_json_is_there(text: str) -> None:
    documented = schema(text)
    quality = analyze(VOTES, PREDICTIONS, {0: "x"}, options=AnalysisOptions(min_votes=1))
    analysis = quality.to_dict()
    analysis["pixels"] = sample_analysis()["pixels"]
    assert set(analysis) == set(documented)

    def names(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*(names(inner) for inner in value.values()))
        return set().union(*map(names, value)) if isinstance(value, list) else set()

    figure = {"value", "low", "high", "n"}
    for key, words in documented.items():
        if key in ("options", "alerts", "provenance"):
            continue
        missing = names(analysis[key]) - set(re.findall(r"`(\w+)`", words)) - figure
        assert not missing, (key, missing)
    assert set(analysis["options"]) == {f.name for f in dataclasses.fields(AnalysisOptions)}


def test_every_column_is_there(text: str) -> None:
    section = text.split("## The columns")[1]
    documented = set()
    group = ""
    for row in re.findall(r"^\| (`.+?) \|", section, re.M):
        for name in re.findall(r"`([\w.]+)`", row):
            group = group if name.startswith(".") else name.partition(".")[0]
            documented.add(group + name if name.startswith(".") else name)
    import numpy as np

    found = analyze_columns(
        read_votes(VOTES), np.full((40, 3), 1 / 3), None, AnalysisOptions(min_votes=1)
    )
    assert set(found) == documented
