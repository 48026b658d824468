"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import string
from collections.abc import Mapping
from typing import Any

from . import _sections_items as items
from . import _sections_masks as masks
from . import _sections_people as people
from ._format import count, esc, number, percent
from ._html import Section, glossary, note, term


def render(
    analysis: Mapping[str, Any], *, title: str | None = None, item_url: str | None = None
) -> str:
    """Render an analysis (schema ``softloss.quality/1``) as an HTML page.

    The page has no address of anything outside itself, and says so to the browser, which then runs
    its own script and nothing else. All text of users is escaped.

    Args:
        analysis: the analysis.
        title: the page's title.
        item_url: where an item can be looked at, with ``{item}`` for its name; rows of the worklist
            then link there.
    """
    masks_alone = "annotator" not in analysis
    sections = [
        *_sections(analysis, item_url),
        _inputs(analysis),
        Section("definitions", "Definitions", glossary()),
    ]
    script = _template("report.js")
    digest = base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode()
    return string.Template(_template("report.html")).substitute(
        title=esc(title or "How good are these labels?"),
        lead=_lead(analysis["pixels"] if masks_alone else analysis),
        version=esc(analysis["version"]),
        nav="\n".join(
            f'<li><a href="#{part.anchor}"{" class=absent" if part.absent else ""}>'
            f"{esc(part.title)}</a></li>"
            for part in sections
        ),
        sections="\n".join(section.html() for section in sections),
        footer=f"softloss {esc(analysis['version'])}, schema {esc(analysis['schema'])}.",
        style=_template("report.css"),
        script=script,
        script_hash=f"sha256-{digest}",
    )


def _sections(analysis: Mapping[str, Any], item_url: str | None) -> list[Section]:
    if "annotator" not in analysis:
        return [masks.pixels(analysis)]
    if analysis["consensus"] is None:  # of sums, without the votes
        return [
            _summary(analysis),
            people.alerts(analysis),
            people.leaderboard(analysis),
            people.pairs(analysis),
            items.agreement(analysis),
            items.model(analysis),
        ]
    return [
        _summary(analysis),
        people.alerts(analysis),
        people.leaderboard(analysis),
        people.pairs(analysis),
        items.agreement(analysis),
        items.classes(analysis),
        items.confusions(analysis),
        items.model(analysis),
        items.ambiguity(analysis),
        people.drift(analysis),
        masks.pixels(analysis),
        items.worklist(analysis, item_url),
    ]


def _lead(found: Mapping[str, Any]) -> str:
    plural = people.plural
    if "readers" in found:
        return (
            f"{plural(found['images'], 'image')} with masks of "
            f"{plural(len(found['readers']), 'reader')}."
        )
    counts = found["counts"]
    return (
        f"{plural(counts['votes'], 'vote')} of {plural(counts['annotators'], 'annotator')} on "
        f"{plural(counts['items'], 'item')}, {len(found['classes'])} classes."
    )


def _template(name: str) -> str:
    file = importlib.resources.files(__package__) / "template" / name
    return file.read_text(encoding="utf-8")


def _card(label: str, big: str, small: str) -> str:
    return (
        f'<div class="card"><dt>{label}</dt><dd><div class="big">{big}</div>'
        f'<div class="small">{small}</div></dd></div>'
    )


def _summary(analysis: Mapping[str, Any]) -> Section:
    counts, figures = analysis["counts"], analysis["agreement"]
    alpha = figures["alpha_nominal"]
    if alpha is None:
        verdict = "not defined here"
    elif alpha >= 0.8:
        verdict = "reliable (0.8 or more)"
    elif alpha >= 0.667:
        verdict = "tentative (0.667 to 0.8)"
    else:
        verdict = "unreliable (under 0.667)"
    votes, with_votes = counts["votes"], counts["items_with_votes"]
    alerted = len({alert["annotator"] for alert in analysis["alerts"]})
    people_alerted = f"{count(alerted)} {'person' if alerted == 1 else 'people'} with alerts"
    overlap = f"{count(counts['items_with_two_votes'])} with 2 votes or more"
    rate = f"{number(votes / with_votes, 1)} an item" if with_votes else ""
    alpha_term = term("alpha_nominal", "Krippendorff's \N{GREEK SMALL LETTER ALPHA}")
    cards = [
        _card(alpha_term, number(alpha), verdict),
        _card(term("percent"), percent(figures["percent"]), "of pairs of votes"),
        _card("Items", count(counts["items"]), overlap),
        _card("Votes", count(votes), rate),
        _card("Annotators", count(counts["annotators"]), people_alerted),
    ]
    issues = None if analysis["item"] is None else analysis["item"]["issue"]
    if issues is not None:
        found = sum(bool(x) for x in issues)
        share = f"{percent(found / len(issues))} of items" if issues else ""
        cards.append(_card(term("label_issues"), count(found), share))
    if analysis["calibration"] is not None:
        ece = analysis["calibration"]["model"]["ece_equal_width"]
        cards.append(
            _card(term("ece", "Calibration error"), number(ece), "of the model, equal width")
        )
    return Section("summary", "Summary", f'<dl class="cards">{"".join(cards)}</dl>')


def _inputs(analysis: Mapping[str, Any]) -> Section:
    provenance = analysis.get("provenance") or {}
    parts = []
    sources = provenance.get("sources") or []
    if sources:
        listed = []
        for source in sources:
            guessed = set(source["guessed"])
            roles = ", ".join(
                f"{esc(role)} = <code>{esc(column)}</code>"
                + (" (guessed)" if role in guessed else "")
                for role, column in source["columns"].items()
            )
            notes = "".join(f"; {esc(text)}" for text in source["notes"])
            listed.append(
                f"<li><strong>{esc(source['name'])}</strong>: {count(source['rows'])} rows; "
                f"{roles}{notes}</li>"
            )
        parts.append(f'<ul class="plain">{"".join(listed)}</ul>')
    listed = [f"<li>{esc(told)}</li>" for told in provenance.get("notes") or []]
    if listed:
        parts.append(f'<ul class="plain">{"".join(listed)}</ul>')
    bad = provenance.get("bad_rows") or []
    total = provenance.get("bad_row_count", len(bad))
    if bad:
        rows = "".join(
            f"<li>{esc(row['source'])}:{esc(row['line'])}: {esc(row['reason'])}</li>"
            for row in bad[:100]
        )
        more = f'<p class="more">{count(total - 100)} more.</p>' if total > 100 else ""
        parts.append(
            f"<h3>Rows left out</h3>{note(people.plural(total, 'row') + ' could not be used.')}"
            f'<ul class="plain">{rows}</ul>{more}'
        )
    elif sources:
        parts.append('<p class="more">Every row was used.</p>')
    if "consensus" not in analysis:
        return Section("inputs", "Inputs", "".join(parts) or note("Every mask was used."))
    if analysis["consensus"] is None:
        shards = analysis["shards"]
        names = "".join(f"<li>{esc(name)}</li>" for name in shards[:200])
        more = f'<p class="more">{count(len(shards) - 200)} more.</p>' if len(shards) > 200 else ""
        text = "Sums of shards, without their votes: figures that need a consensus are not here."
        return Section("inputs", "Inputs", f'{note(text)}<ul class="plain">{names}</ul>{more}')
    method = analysis["consensus"]["method"]
    parts.append(
        f'<p class="more">{term("consensus")} by {esc(method)}. A {term("soft_vote", "vote")} is a '
        "distribution over the classes; a hard one is all on one class.</p>"
    )
    return Section("inputs", "Inputs", "".join(parts))
