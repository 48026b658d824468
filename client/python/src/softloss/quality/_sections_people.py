"""The report's sections about people: alerts, leaderboard, pairs, drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._format import count, esc, known, number, percent
from ._html import (
    Section,
    absent,
    cell,
    figure_cell,
    graph_cell,
    head,
    heat,
    legend,
    level,
    name_cell,
    note,
    table,
    term,
)
from ._plots import drift_line

#: What the report shows at most; the JSON has all.
MOST_ANNOTATORS = 200
MOST_IN_MATRIX = 40
MOST_DETAILS = 12
MOST_DRIFTS = 12
MOST_ALERTS = 50


KINDS = {
    "below_threshold": "Below threshold",
    "drift": "Drift",
    "spammer": "Votes without looking",
    "class_collapse": "Class collapse",
}


def plural(n: int, one: str) -> str:
    """Return "1 vote", "2 votes"."""
    return f"{count(n)} {one}" + ("" if n == 1 else "s")


def alerts(analysis: Mapping[str, Any]) -> Section:
    """What needs somebody's attention."""
    found = analysis["alerts"]
    if not found:
        body = (
            '<p class="fine">No alert: nobody is under a threshold, drifts, or votes blindly.</p>'
        )
        return Section("alerts", "Alerts", body)
    rows = []
    for alert in found[:MOST_ALERTS]:
        numbers = f"{esc(alert['metric'])} {number(alert['value'])}"
        if known(alert["low"]) and known(alert["high"]):
            numbers += f" ({number(alert['low'])} to {number(alert['high'])})"
        if known(alert["threshold"]):
            numbers += f", threshold {number(alert['threshold'])}"
        rows.append(
            f'<li><span class="kind">{esc(KINDS.get(alert["kind"], alert["kind"]))}: '
            f"{esc(alert['annotator'])}</span> <br>{esc(alert['message'])} "
            f'<span class="numbers">{numbers}</span></li>'
        )
    more = ""
    if len(found) > MOST_ALERTS:
        more = f'<p class="more">{count(len(found) - MOST_ALERTS)} more are in the JSON.</p>'
    return Section("alerts", "Alerts", f'<ul class="alerts">{"".join(rows)}</ul>{more}')


def _value(person: Mapping[str, Any], key: str) -> float | None:
    figure = person.get(key)
    if figure is None:
        return None
    value = figure["value"] if isinstance(figure, Mapping) else figure
    return float(value) if known(value) else None


def _median(people: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [v for person in people if (v := _value(person, key)) is not None]
    return float(np.median(values)) if values else None


def _low_end(people: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> float:
    """A round number under the intervals shown, so that they use the width."""
    lows = [
        person[key]["low"] if known(person[key]["low"]) else person[key]["value"]
        for person in people
        for key in keys
        if person[key] is not None and known(person[key]["value"])
    ]
    return np.floor(max(0.0, min([*lows, 1.0])) * 10) / 10 if lows else 0.0


def leaderboard(analysis: Mapping[str, Any]) -> Section:
    """The annotators with intervals."""
    people = analysis["annotator"]
    graphs = ["quality", "agreement_consensus"]
    if all(_value(person, "quality") is None for person in people):
        graphs.remove("quality")
    ranked = sorted(
        people, key=lambda p: (_value(p, graphs[0]) is None, -(_value(p, graphs[0]) or 0))
    )
    shown = ranked[-MOST_ANNOTATORS:]
    limit = (analysis.get("options") or {}).get("min_agreement")
    thresholds = {} if limit is None else {"agreement_consensus": limit}
    flagged = {alert["annotator"] for alert in analysis["alerts"]}
    extra = [
        (key, title, share)
        for key, title, share in (
            ("agreement_peers", "Peers", True),
            ("agreement_gold", "Gold", True),
            ("agreement_model", "Model", True),
            ("js", "JS to model", False),
        )
        if any(_value(person, key) is not None for person in people)
    ]
    low = _low_end(shown, graphs)
    medians = {key: _median(people, key) for key in graphs}
    heads = [
        head("Annotator"),
        head(term("votes"), "n"),
        *(
            head(term(key, title), sort="descending" if key == graphs[0] else "")
            for key, title in (
                ("quality", "Quality"),
                ("agreement_consensus", "Others' consensus"),
            )
            if key in graphs
        ),
        *(head(term(key, title), "n") for key, title, _ in extra),
    ]
    rows = []
    for person in shown:
        cells = [name_cell(person["name"], "th"), cell(count(person["votes"]), person["votes"])]
        for key in graphs:
            cells.append(
                graph_cell(
                    person[key],
                    f"{person['name']}, {key.replace('_', ' ')}",
                    low,
                    1.0,
                    reference=medians[key],
                    limit=thresholds.get(key),
                )
            )
        for key, _, share in extra:
            cells.append(figure_cell(person[key], share))
        mark = ' class="flagged"' if person["name"] in flagged else ""
        rows.append(f"<tr{mark}>{''.join(cells)}</tr>")
    sentences = [
        f"Points with {term('interval', '95 % intervals')}, on a scale from {percent(low, 0)} to "
        "100 %; dashed: the median of all annotators.",
        f"Consensus by {esc(analysis['consensus']['method'])}." if analysis["consensus"] else "",
    ]
    if thresholds:
        sentences.append("Orange line: the least agreement without an alert.")
    if len(people) > len(shown):
        sentences.append(
            f"<strong>The {count(len(shown))} lowest of {count(len(people))} are shown</strong>; "
            "all are in the JSON."
        )
    body = note(*sentences) + table(
        heads,
        rows,
        label="Annotators with their figures",
        table_id="leaderboard",
        sortable=True,
        filtered="Find an annotator",
    )
    return Section("annotators", "Annotators", body + _details(analysis, ranked, flagged))


def _details(
    analysis: Mapping[str, Any], ranked: Sequence[Mapping[str, Any]], flagged: set[str]
) -> str:
    classes = analysis["classes"]
    if len(classes) > 12:
        return ""
    lowest = ranked[::-1]
    chosen = [p for p in lowest if p["name"] in flagged] + [
        p for p in lowest if p["name"] not in flagged
    ]
    blocks = [_person(person, classes) for person in chosen[:MOST_DETAILS] if person["votes"]]
    which = "Alerted first, then from the lowest quality up."
    if len(chosen) > MOST_DETAILS:
        which += f" {MOST_DETAILS} of {count(len(chosen))}."
    return f"<h3>One by one</h3>{note(which)}{''.join(blocks)}"


def _person(person: Mapping[str, Any], classes: Sequence[str]) -> str:
    cells = []
    for i, row in enumerate(person["confusion"] or []):
        cells.append(
            [
                (
                    number(100 * v, 0) if known(v) else "",
                    _confusion_class(v, i == j),
                    f"is {classes[i]}, voted {classes[j]}: {percent(v)}",
                )
                for j, v in enumerate(row)
            ]
        )
    figures = []
    for key in (
        "agreement_peers", "agreement_gold", "agreement_model", "cross_entropy", "kl", "js",
        "brier", "tv",
    ):  # fmt: skip
        if person[key] is not None:
            figures.append(
                f"<tr><th scope='row'>{term(key)}</th>"
                f"{figure_cell(person[key], key.startswith('agreement'))}"
                f"{cell(count(person[key]['n']), person[key]['n'])}</tr>"
            )
    for key, write in (("accuracy", percent), ("spammer_score", number)):
        if known(person.get(key)):
            shown = cell(write(person[key]), person[key])
            figures.append(f"<tr><th scope='row'>{term(key)}</th>{shown}{cell('')}</tr>")
    shares = ", ".join(
        f"{esc(name)} {percent(share, 0)}"
        for name, share in zip(classes, person["class_share"], strict=True)
        if known(share)
    )
    key = "agreement_consensus" if _value(person, "quality") is None else "quality"
    quality = f"{key.replace('_', ' with ')} {percent(_value(person, key))}"
    rows = table(
        [head("Figure"), head("Value", "n"), head("Over", "n")],
        figures,
        label=f"Figures of {person['name']}",
    )
    matrix = ""
    if cells:
        matrix = note("Estimated " + term("confusion", "confusions") + ", % of each row.")
        matrix += heat(classes, classes, cells, f"Confusions of {person['name']}", "is \\ voted")
    return (
        f'<details class="person"><summary>{esc(person["name"])} <span class="small">'
        f"{quality}, {plural(person['votes'], 'vote')}</span></summary>"
        f'<div class="columns"><div>{note("Votes by class: " + shares + ".")}{rows}</div>'
        f"<div>{matrix}</div></div></details>"
    )


def _confusion_class(value: Any, diagonal: bool) -> str:
    if not known(value):
        return "none"
    step = min(4, int(np.ceil(float(value) * 4 - 0.05)))
    return f"{'b' if diagonal else 'o'}{max(step, 0)}"


def pairs(analysis: Mapping[str, Any]) -> Section:
    """Agreement of annotators with one another and with the model."""
    title = "Who agrees with whom"
    if analysis["pair"] is None:
        why = f"{count(len(analysis['annotators']))} annotators are too many for a matrix."
        return absent("pairs", title, why)
    names = analysis["pair"]["names"]
    agreement = np.array(
        [[np.nan if v is None else v for v in row] for row in analysis["pair"]["agreement"]], float
    ).reshape(len(names), len(names))
    items = np.array(analysis["pair"]["items"]).reshape(len(names), len(names))
    off = ~np.eye(len(names), dtype=bool)
    if not np.isfinite(agreement[off]).any():
        return absent("pairs", title, "No two annotators have an item in common.")
    has_model = bool(analysis["counts"]["predictions"]) and names[-1:] == ["model"]
    people = len(names) - has_model
    mean = np.array(
        [np.nanmean(row[keep]) if np.isfinite(row[keep]).any() else np.inf
         for row, keep in zip(agreement, off, strict=True)]
    )  # fmt: skip
    order = np.argsort(mean[:people], kind="stable")[:MOST_IN_MATRIX]
    order = np.append(order, people) if has_model else order
    overall = float(np.nanmean(agreement[off]))
    span = max(float(np.nanmax(np.abs(agreement[off] - overall))), 0.05)
    cells = []
    for i in order:
        row = []
        for j in order:
            value, common = agreement[i, j], int(items[i, j])
            tip = f"{names[i]} and {names[j]}: "
            if i == j:
                row.append(("", "self", f"{names[i]}: {count(common)} items"))
            elif not np.isfinite(value):
                row.append(("", "none", tip + "no common item"))
            else:
                tip += f"{percent(value)} of {count(common)} items"
                row.append((number(100 * value, 0), level(value, overall, span), tip))
        cells.append(row)
    shown = [names[i] for i in order]
    sentences = [
        f"{term('pair', 'Agreement of each pair')} in %, lowest first; the mean of all pairs is "
        f"{percent(overall)}."
    ]
    if has_model:
        sentences.append("The last row and column are the model.")
    if people > MOST_IN_MATRIX:
        sentences.append(
            f"<strong>The {MOST_IN_MATRIX} who agree least of {count(people)} are shown</strong>; "
            "all are in the JSON."
        )
    matrix = heat(shown, shown, cells, "Agreement of pairs", special="model" if has_model else "")
    key = legend(
        ("o4", ""), ("o2", "less than the mean"), ("b0", "the mean"), ("b2", ""), ("b4", "more"),
        ("", "· hatched: no common item"),
    )  # fmt: skip
    return Section("pairs", title, note(*sentences) + matrix + key)


def drift(analysis: Mapping[str, Any]) -> Section:
    """Agreement over time."""
    title = "Drift over time"
    rows = [row for row in analysis["drift"] or [] if len(row["window"]) > 1]
    if not rows:
        why = (
            "The votes have no times."
            if analysis["drift"] is None
            else "No annotator has votes in two windows of time."
        )
        return absent("drift", title, why)
    flagged = {a["annotator"] for a in analysis["alerts"] if a["kind"] == "drift"}

    def change(row: Mapping[str, Any]) -> float:
        values = [
            w["agreement"]["value"]
            for w in row["window"]
            if w["agreement"] is not None and known(w["agreement"]["value"])
        ]
        return values[-1] - float(np.mean(values[:-1])) if len(values) > 1 else 0.0

    shown = sorted(rows, key=lambda r: (r["annotator"] not in flagged, change(r)))[:MOST_DRIFTS]
    lows = [
        w["agreement"]["low"]
        for row in shown
        for w in row["window"]
        if w["agreement"] is not None and known(w["agreement"]["low"])
    ]
    low = min(0.9, float(np.floor(min([*lows, 0.9]) * 10) / 10))
    blocks = []
    for row in shown:
        bad = row["annotator"] in flagged
        graph = drift_line(row["window"], low, bad, f"{row['annotator']}: agreement over time")
        blocks.append(f"<div><h4>{esc(row['annotator'])}</h4>{graph}</div>")
    which = ""
    if len(rows) > len(shown):
        which = f"The {len(shown)} that fell most of {count(len(rows))}."
    body = note(
        f"{term('drift', 'Agreement by window')} with its interval; alerts first, then by how "
        f"much the last window is under those before. {which}"
    )
    return Section("drift", title, f'{body}<div class="small-multiples">{"".join(blocks)}</div>')
