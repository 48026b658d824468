"""The report's sections about items, classes and the model."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._format import ABSENT, column, count, esc, known, number, percent, shorten
from ._html import (
    Section,
    absent,
    cell,
    head,
    heat,
    legend,
    name_cell,
    note,
    table,
    term,
)
from ._plots import histogram, reliability, scatter

#: What the report shows at most; the JSON has all.
MOST_CLASSES = 100
MOST_IN_CONFUSION = 20
MOST_CONFUSIONS = 15
MOST_WORK = 200


def classes(analysis: Mapping[str, Any]) -> Section:
    """The classes, and what is taken for what."""
    rows_all = analysis["class"]
    shown = sorted(
        rows_all,
        key=lambda r: (not known(r["agreement"]), r["agreement"] if known(r["agreement"]) else 0),
    )[:MOST_CLASSES]
    optional = [
        (key, write)
        for key, write in (
            ("threshold", percent),
            ("label_issues", count),
            ("estimated_noise", percent),
        )
        if any(known(row.get(key)) for row in rows_all)
    ]
    heads = [
        head("Class"),
        head(term("votes"), "n"),
        head(term("consensus", "Items"), "n"),
        head(term("prior"), "n"),
        head(term("class_agreement", "Agreement"), "n"),
        *(head(term(key), "n") for key, _ in optional),
    ]
    rows = [
        f"<tr>{name_cell(row['name'], 'th')}{cell(count(row['votes']), row['votes'])}"
        f"{cell(count(row['consensus_items']), row['consensus_items'])}"
        f"{cell(percent(row['prior']), row['prior'])}"
        f"{cell(percent(row['agreement']), row['agreement'])}"
        f"{''.join(cell(write(row[key]), row[key]) for key, write in optional)}</tr>"
        for row in shown
    ]
    sentences = ["Least agreed first."]
    if len(rows_all) > len(shown):
        sentences.append(f"<strong>{len(shown)} of {count(len(rows_all))} are shown.</strong>")
    body = note(*sentences) + table(
        heads, rows, label="Classes with their figures", table_id="classes-table", sortable=True
    )
    return Section("classes", "Classes", body)


def confusions(analysis: Mapping[str, Any]) -> Section:
    """What is voted for what it is not."""
    title = "Confusions"
    names = analysis["classes"]
    pairs = [row for row in analysis["confusion_pairs"] if row["count"] > 0]
    if not pairs:
        return absent("confusions", title, "Every vote is the consensus of its item.")
    most = max(row["count"] for row in pairs)

    def class_name(value: Any) -> str:
        return str(names[value]) if isinstance(value, (int, np.integer)) else str(value)

    rows = []
    for row in pairs[:MOST_CONFUSIONS]:
        width = 100 * row["count"] / most
        meter = (
            '<svg width="110" height="10" viewBox="0 0 100 10" preserveAspectRatio="none" '
            f'aria-hidden="true"><rect class="bar" width="{width:.1f}" height="10" rx="1.5"/></svg>'
        )
        rows.append(
            f"<tr>{name_cell(class_name(row['consensus']))}{name_cell(class_name(row['vote']))}"
            f"{cell(number(row['count'], 1), row['count'])}"
            f"{cell(percent(row['share']), row['share'])}<td>{meter}</td></tr>"
        )
    top = table(
        [
            head("Consensus"),
            head("Voted"),
            head("Votes", "n"),
            head(term("confusion", "Of the class"), "n"),
            head("", ""),
        ],
        rows,
        label="Most frequent confusions",
    )
    body = f"<div><h3>Most frequent</h3>{top}</div>"
    if len(names) <= MOST_IN_CONFUSION and analysis["confusion"] is not None:
        matrix = np.array(analysis["confusion"], float)
        share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1e-300)
        cells = []
        for i, line in enumerate(share):
            row_cells = []
            for j, v in enumerate(line):
                tip = f"is {names[i]}, voted {names[j]}: {percent(v)} ({number(matrix[i, j], 1)})"
                if i == j:
                    cls = f"b{min(4, int(np.ceil(v * 4 - 0.05)))}"
                else:
                    cls = f"o{min(4, int(np.ceil(v * 10 - 0.2)))}" if v > 0 else "o0"
                row_cells.append((number(100 * v, 0), cls, tip))
            cells.append(row_cells)
        grid = heat(names, names, cells, "Confusions of all votes", "is \\ voted")
        body += (
            f"<div><h3>All</h3>{grid}"
            + legend(("b4", "right"), ("o1", ""), ("o4", "taken for another, from 10 % a step"))
            + "</div>"
        )
    intro = note(
        f"{term('confusion', 'Votes')} by the {term('consensus', 'consensus')} of their item, in % "
        "of the row."
    )
    return Section("confusions", title, f'{intro}<div class="columns">{body}</div>')


def agreement(analysis: Mapping[str, Any]) -> Section:
    """Agreement overall, and item by item."""
    title = "Agreement"
    figures = analysis["agreement"]
    rows = [
        f"<tr><th scope='row'>{term(key)}</th>"
        f"{cell(_agreement(key, figures[key]), figures[key])}</tr>"
        for key in (
            "alpha_nominal", "alpha_soft", "alpha_ordinal", "alpha_interval", "fleiss_kappa",
            "cohen_kappa", "percent",
        )
    ]  # fmt: skip
    two = analysis["counts"]["items_with_two_votes"]
    if not two:
        return absent("agreement", title, "No item has two votes: there is nothing to compare.")
    left = table([head("Figure"), head("Value", "n")], rows, label="Agreement figures")
    bars = analysis["agreement_histogram"]
    graph = histogram(
        bars["edges"],
        bars["count"],
        f"Histogram of the agreement of {count(two)} items",
        "share of an item's pairs of votes that agree",
    )
    caption = (
        f"<figcaption>{term('item_agreement', 'Agreement')} of the {count(two)} items with at "
        "least two votes, by number of items.</figcaption>"
    )
    body = f'<div class="columns"><div>{left}</div><figure>{graph}{caption}</figure></div>'
    return Section("agreement", title, body)


def _agreement(key: str, value: Any) -> str:
    return percent(value) if key == "percent" else number(value, 4)


def model(analysis: Mapping[str, Any]) -> Section:
    """Is the model calibrated by the consensus?"""
    title = "The model"
    calibration = analysis["calibration"]
    if calibration is None:
        return absent("model", title, "There are no predictions of a model.")
    found = calibration["model"]
    graph = reliability(found["bins"], "Reliability: how often the model is right, by confidence")
    rows = "".join(
        f"<tr>{cell(percent(b['low'], 0) + ' to ' + percent(b['high'], 0), b['low'])}"
        f"{cell(count(b['count']), b['count'])}{cell(percent(b['confidence']), b['confidence'])}"
        f"{cell(percent(b['accuracy']), b['accuracy'])}</tr>"
        for b in found["bins"]
        if b["count"]
    )
    ece = (
        f"{term('ece')}: <strong>{number(found['ece_equal_width'], 4)}</strong> in bins of equal "
        f"width, <strong>{number(found['ece_equal_mass'], 4)}</strong> of equal mass."
    )
    bins = table(
        [head("Confidence", "n"), head("Items", "n"), head("Mean", "n"), head("Right", "n")],
        [rows],
        label="Bins of confidence",
    )
    caption = (
        f"<figcaption>{term('reliability')}; the area of a dot is its number of items.</figcaption>"
    )
    body = (
        f'{note(ece)}<div class="columns"><figure>{graph}{caption}</figure><div>{bins}</div></div>'
    )
    return Section("model", title, body)


def ambiguity(analysis: Mapping[str, Any]) -> Section:
    """Which items are ambiguous, and which are wrong."""
    title = "Ambiguity and error"
    items = analysis["item"]
    if items["model_cross_entropy"] is None:
        return absent(
            "ambiguity", title, "Errors are told from ambiguity by a model's predictions."
        )
    entropy = column(items["entropy"])
    error = column(items["model_cross_entropy"]) - entropy
    good = np.isfinite(entropy) & np.isfinite(error)
    if not good.any():
        return absent("ambiguity", title, "No item has both votes and a prediction.")
    issue = column(items["issue"] if items["issue"] is not None else [0] * len(entropy)) > 0
    names = [name for name, keep in zip(items["name"], good, strict=True) if keep]
    graph = scatter(
        entropy[good],
        np.maximum(error[good], 0),
        issue[good],
        names,
        f"Items by ambiguity and error: {count(good.sum())}, of which {count(issue[good].sum())} "
        "are label issues",
        "ambiguity: entropy of the votes, nats",
        "error: beyond the ambiguity, nats",
    )
    text = note(
        f"An item to the right is {term('ambiguity', 'ambiguous')}: its votes differ. An item high "
        f"up is one where the votes and the model differ beyond that: {term('error', 'error')}. "
        "High on the left, the votes are sure and the model contradicts: look at those labels "
        "first."
    )
    key = (
        f"<figcaption>{count(good.sum())} items; orange: {count(issue[good].sum())} "
        f"{term('label_issues', 'label issues')}.</figcaption>"
    )
    return Section("ambiguity", title, f"{text}<figure>{graph}{key}</figure>")


def worklist(analysis: Mapping[str, Any], item_url: str | None) -> Section:
    """What to label again, first things first."""
    title = "Worklist"
    work = analysis["worklist"]
    if not work:
        return absent("worklist", title, "No item asks for another vote.")
    names = analysis["classes"]
    rows = []
    for row in work[:MOST_WORK]:
        item = esc(shorten(row["item"], 60))
        if item_url:
            url = item_url.replace("{item}", urllib.parse.quote(str(row["item"]), safe=""))
            item = f'<a href="{esc(url)}" rel="noreferrer">{item}</a>'
        suggested = names[row["suggested"]] if known(row["suggested"]) else ABSENT
        given = names[row["given"]] if known(row.get("given")) else ABSENT
        rows.append(
            f'<tr>{cell(count(row["rank"]), row["rank"])}<th scope="row" class="name" '
            f'title="{esc(row["item"])}">{item}</th>{name_cell(given)}{name_cell(suggested)}'
            f"{cell(percent(row['confidence']), row['confidence'])}"
            f"{cell(number(row['score']), row['score'])}<td>{esc(row['reason'])}</td></tr>"
        )
    heads = [
        head("#", "n", "ascending"),
        head("Item"),
        head("Voted"),
        head(term("suggested", "Suggested")),
        head(term("confidence"), "n"),
        head(term("score"), "n"),
        head("Why"),
    ]
    more = "; the CSV and the JSON have more" if len(work) > MOST_WORK else ""
    body = note(f"{count(min(len(work), MOST_WORK))} items, most urgent first{more}.") + table(
        heads, rows, label="Worklist", table_id="work", sortable=True, filtered="Find an item"
    )
    return Section("worklist", title, body)
