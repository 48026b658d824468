"""The report's HTML: what it says, what it must not let in, and that it needs nothing outside."""

from __future__ import annotations

import html.parser
import re
from typing import Any

import numpy as np
import pytest
from sample_analysis import sample_analysis
from softloss.quality._definitions import DEFINITIONS
from softloss.quality._outputs import plain
from softloss.quality._report import render

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><b>&amp;",
    "$title ${script} %s {0}",
    "javascript:alert(1)",
    "עברית ‮ مرحبا",
    "x" * 500,
]
SECTIONS = [
    "summary", "alerts", "annotators", "pairs", "agreement", "classes", "confusions", "model",
    "ambiguity", "drift", "masks", "worklist", "inputs", "definitions",
]  # fmt: skip


class Page(html.parser.HTMLParser):
    """The page as elements: their tags with attributes, ids, links and the text by section."""

    void = {"meta", "img", "input", "br", "link", "hr"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: dict[str, str] = {}
        self.section = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)
        if tag == "section":
            self.section = str(dict(attrs)["id"])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-5:])
        self.open.pop()
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        self.text[self.section] = self.text.get(self.section, "") + data

    def attributes(self, name: str) -> list[str]:
        return [str(attrs[name]) for _, attrs in self.tags if name in attrs]


def page(analysis: dict[str, Any], **options: Any) -> Page:
    return Page(render(plain(analysis), **options))


@pytest.fixture(scope="module")
def sample() -> dict[str, Any]:
    return sample_analysis()


def test_every_section_is_there_and_well_formed(sample: dict[str, Any]) -> None:
    shown = page(sample)
    assert shown.open == []
    assert [a["id"] for tag, a in shown.tags if tag == "section"] == SECTIONS
    nav = [h for h in shown.attributes("href") if not h.startswith("#def-")]
    assert [f"#{name}" for name in SECTIONS] == [h for h in nav if h != "#main"]


def test_ids_are_unique_and_every_link_has_its_place(sample: dict[str, Any]) -> None:
    shown = page(sample)
    ids = shown.attributes("id")
    assert len(ids) == len(set(ids))
    for link in shown.attributes("href"):
        assert link.startswith("#") and link[1:] in ids, link
    for label in shown.attributes("aria-labelledby"):
        assert label in ids or label == "definition-title"  # made when the dialog opens


def test_every_definition_is_shown_and_linked_ones_exist(sample: dict[str, Any]) -> None:
    shown = page(sample)
    for key, definition in DEFINITIONS.items():
        assert f"def-{key}" in shown.attributes("id")
        assert definition.text in shown.text["definitions"]
    linked = {link for link in shown.attributes("href") if link.startswith("#def-")}
    assert len(linked) > 25


def test_the_numbers_shown_are_those_of_the_analysis(sample: dict[str, Any]) -> None:
    shown = page(sample)
    assert "0.612" in shown.text["summary"] and "2\N{NARROW NO-BREAK SPACE}400" in shown.text[
        "summary"
    ]  # fmt: skip
    for person in sample["annotator"]:
        name = person["name"]
        assert name in shown.text["annotators"]
        assert f"{100 * person['quality']['value']:.1f} %" in shown.text["annotators"]
    for row in sample["worklist"][:5]:
        assert row["item"] in shown.text["worklist"]
    assert f"{sample['agreement']['alpha_interval']:.4f}" in shown.text["agreement"]
    assert f"{sample['calibration']['model']['ece_equal_mass']:.4f}" in shown.text["model"]
    assert f"{sample['pixels']['alpha_soft']:.4f}" in shown.text["masks"]
    assert "votes.csv:17: worker: there is none" in shown.text["inputs"]
    assert "item = task (guessed)" in shown.text["inputs"]


def test_nothing_is_fetched(sample: dict[str, Any]) -> None:
    text = render(plain(sample))
    for tag, attrs in Page(text).tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "audio", "video")
        if "src" in attrs:
            assert str(attrs["src"]).startswith("data:image/png;base64,")
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|@import|url\(", text)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_of_users_stay_text(hostile: str) -> None:
    analysis = sample_analysis(
        classes=(hostile, hostile + "2", "plain"),
        names=[f"{hostile}{i}" for i in range(6)],
        annotators=6,
        items=60,
    )
    analysis["item"]["name"] = [f"{hostile}{i}" for i in range(60)]
    for row in analysis["worklist"]:
        row["item"] = row["reason"] = hostile
    for alert in analysis["alerts"]:
        alert["message"] = hostile
    analysis["provenance"]["sources"][0]["name"] = hostile
    analysis["provenance"]["bad_rows"][0]["reason"] = hostile
    analysis["pixels"]["readers"] = [hostile + str(i) for i in range(4)]
    for row in analysis["pixels"]["reader"]:
        row["name"] = hostile
    for row in analysis["pixels"]["map"]:
        row["image"] = hostile
    shown = page(analysis, title=hostile)
    plain_tags = {tag for tag, _ in page(sample_analysis()).tags}
    assert {tag for tag, _ in shown.tags} <= plain_tags
    assert sum(tag == "script" for tag, _ in shown.tags) == 1
    assert not [name for _, attrs in shown.tags for name in attrs if name.startswith("on")]
    assert all(link.startswith("#") for link in shown.attributes("href"))
    assert hostile in shown.text["alerts"]


def test_items_may_link_to_where_they_are() -> None:
    analysis = sample_analysis(items=60)
    analysis["worklist"][0]["item"] = 'a/b?c="d"&e'
    shown = page(analysis, item_url='https://example.org/tasks?id={item}&x="')
    links = [link for link in shown.attributes("href") if not link.startswith("#")]
    assert links[0] == 'https://example.org/tasks?id=a%2Fb%3Fc%3D%22d%22%26e&x="'
    assert len(links) == len(analysis["worklist"])


def test_what_is_absent_says_why() -> None:
    analysis = sample_analysis(
        predictions=False, gold=False, times=False, masks=False, votes_an_item=1
    )
    analysis["alerts"] = []
    analysis["worklist"] = []
    analysis["confusion_pairs"] = []
    text = page(analysis).text
    assert "There are no predictions of a model." in text["model"]
    assert "by a model's predictions" in text["ambiguity"]
    assert "The votes have no times." in text["drift"]
    assert "There are no masks." in text["masks"]
    assert "No two annotators have an item in common." in text["pairs"]
    assert "No item has two votes" in text["agreement"]
    assert "No item asks for another vote." in text["worklist"]
    assert "Every vote is the consensus" in text["confusions"]
    assert "No alert" in text["alerts"]
    assert "Gold" not in text["annotators"]


def test_figures_that_are_undefined_are_dashes() -> None:
    analysis = sample_analysis(items=60, masks=False)
    person = analysis["annotator"][3]
    for key in ("quality", "agreement_consensus", "agreement_peers", "agreement_gold", "js"):
        person[key] = None
    person["accuracy"] = person["spammer_score"] = person["confusion"] = None
    analysis["annotator"][4]["quality"] |= {"low": None, "high": None}
    for key in analysis["agreement"]:
        analysis["agreement"][key] = float("nan")
    analysis["item"]["model_cross_entropy"][0] = None
    analysis["confusion"] = None
    text = page(analysis).text
    for section, words in text.items():
        if section in SECTIONS[:-1]:
            assert not re.search(r"\b(nan|None|null)\b", words), section
    assert "not defined here" in text["summary"]


def test_a_thousand_annotators_are_capped_and_it_is_said() -> None:
    analysis = sample_analysis(annotators=1000, items=1200, votes_an_item=6, masks=False)
    text = render(plain(analysis))
    shown = Page(text)
    assert "The 200 lowest of 1\N{NARROW NO-BREAK SPACE}000 are shown" in shown.text["annotators"]
    assert "The 40 who agree least of 1\N{NARROW NO-BREAK SPACE}000" in shown.text["pairs"]
    lowest = min(
        (p for p in analysis["annotator"] if p["quality"]), key=lambda p: p["quality"]["value"]
    )
    assert lowest["name"] in shown.text["annotators"]
    assert len(text) < 1_500_000
    analysis["pair"] = None
    assert "too many for a matrix" in page(analysis).text["pairs"]


def test_many_items_are_a_density(rng: np.random.Generator) -> None:
    analysis = sample_analysis(items=5000, masks=False)
    text = render(plain(analysis))
    assert len(text) < 700_000
    assert 'class="c4"' in text


def test_the_browser_runs_this_script_alone(sample: dict[str, Any]) -> None:
    text = render(plain(sample))
    (policy,) = (
        str(attrs["content"])
        for _, attrs in Page(text).tags
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    import base64
    import hashlib

    script = text[text.index("<script>") + 8 : text.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
