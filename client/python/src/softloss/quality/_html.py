"""Pieces of the report's HTML that several sections use."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ._definitions import DEFINITIONS
from ._format import ABSENT, esc, known, number, percent, shorten
from ._plots import interval

Figure = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the report; without a body it says why it is absent."""

    anchor: str
    title: str
    body: str
    absent: bool = False

    def html(self) -> str:
        """Return the section as HTML."""
        return (
            f'<section id="{self.anchor}" aria-labelledby="{self.anchor}-title">'
            f'<h2 id="{self.anchor}-title">{esc(self.title)}</h2>\n{self.body}\n</section>'
        )


def absent(anchor: str, title: str, why: str) -> Section:
    """Make a section that says why it has nothing to show."""
    return Section(anchor, title, f'<p class="absent">{esc(why)}</p>', absent=True)


def term(key: str, words: str | None = None) -> str:
    """Link words (by default a definition's title) to the definition."""
    title = esc(DEFINITIONS[key].title)
    shown = title if words is None else esc(words)
    return f'<a class="def" href="#def-{key}" title="{title}: definition">{shown}</a>'


def note(*sentences: str) -> str:
    """Wrap sentences (HTML) as the text under a heading."""
    return f'<p class="note">{" ".join(sentences)}</p>'


def name_cell(name: str, tag: str = "td") -> str:
    """Make a cell with a user's name, whole in the tooltip."""
    scope = ' scope="row"' if tag == "th" else ""
    return f'<{tag} class="name"{scope} title="{esc(name)}">{esc(shorten(name, 32))}</{tag}>'


def cell(shown: str, value: Any = None, cls: str = "n") -> str:
    """Make a cell that sorts by `value`."""
    sort = f' data-v="{value:.10g}"' if known(value) else ' data-v=""'
    return f'<td class="{cls}"{sort}>{shown}</td>'


def figure_cell(figure: Figure | None, share: bool = True) -> str:
    """Make a cell of a figure with its interval in small print."""
    if figure is None or not known(figure["value"]):
        return cell(ABSENT)
    write = percent if share else number
    shown = write(figure["value"])
    if known(figure["low"]) and known(figure["high"]):
        shown += f' <span class="low-high">{_range(figure, share)}</span>'
    return cell(shown, figure["value"])


def graph_cell(figure: Figure | None, label: str, low: float, high: float, **marks: Any) -> str:
    """Make a cell of a share with its interval drawn."""
    graph = interval(figure, low, high, label=label, **marks)
    if figure is None or not known(figure["value"]):
        return cell(ABSENT)
    shown = (
        f'{graph}{percent(figure["value"])} <span class="low-high">{_range(figure, True)}</span>'
    )
    return cell(shown, figure["value"], "with-graph")


def _range(figure: Figure, share: bool) -> str:
    if not known(figure["low"]) or not known(figure["high"]):
        return ""
    if share:
        return f"{number(100 * figure['low'], 0)}\N{EN DASH}{number(100 * figure['high'], 0)}"
    return f"{number(figure['low'], 2)}\N{EN DASH}{number(figure['high'], 2)}"


def table(
    head: Iterable[str],
    rows: Iterable[str],
    *,
    label: str,
    table_id: str = "",
    sortable: bool = False,
    filtered: str = "",
) -> str:
    """Make a table of header cells and rows (HTML); `filtered` is the label of its filter."""
    attributes = f' id="{table_id}"' if table_id else ""
    attributes += ' class="sortable"' if sortable else ""
    search = ""
    if filtered:
        search = (
            f'<p class="filter" hidden><label>{esc(filtered)} '
            f'<input type="search" data-table="{table_id}"></label></p>'
        )
    return (
        f'{search}<div class="scroll" tabindex="0" role="region" aria-label="{esc(label)}">'
        f"<table{attributes}><thead><tr>{''.join(head)}</tr></thead>\n"
        f"<tbody>{chr(10).join(rows)}</tbody></table></div>"
    )


def head(words: str, cls: str = "", sort: str = "") -> str:
    """Make a column's header cell (`words` is HTML)."""
    cls = f' class="{cls}"' if cls else ""
    sort = f' aria-sort="{sort}"' if sort else ""
    return f'<th scope="col"{cls}{sort}>{words}</th>'


def level(value: float, middle: float, span: float) -> str:
    """Return the class of a colour: blue (b0 to b4) from `middle` up, orange (o0 to o4) down."""
    distance = (value - middle) / (span or 1)
    step = min(4, int(abs(distance) * 5))
    return f"{'b' if distance >= 0 else 'o'}{step}"


def heat(
    row_names: Sequence[str],
    column_names: Sequence[str],
    cells: Sequence[Sequence[tuple[str, str, str]]],
    label: str,
    corner: str = "",
    special: str = "",
) -> str:
    """Make a coloured matrix; a cell is its text, its class and its tooltip.

    The row and the column named `special` stand out.
    """
    dense = len(column_names) > 24
    longest = max((min(len(name), 20) for name in column_names), default=1)
    columns = "".join(
        f'<th scope="col"{" class=model" if name == special else ""} title="{esc(name)}">'
        f"<span>{esc(shorten(name, 20))}</span></th>"
        for name in column_names
    )
    rows = []
    for name, row in zip(row_names, cells, strict=True):
        data = "".join(
            f'<td class="{cls}" title="{esc(tip)}">{"" if dense else esc(shown)}</td>'
            for shown, cls, tip in row
        )
        mark = ' class="model"' if name == special else ""
        rows.append(
            f'<tr{mark}><th scope="row" title="{esc(name)}">{esc(shorten(name, 20))}</th>'
            f"{data}</tr>"
        )
    size = f"--head:{0.5 * longest + 0.8:.1f}rem"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(label)}">'
        f'<table class="heat{" dense" if dense else ""}" style="{size}">'
        f"<thead><tr><th>{esc(corner)}</th>{columns}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def legend(*marks: tuple[str, str]) -> str:
    """Explain colours: pairs of a class (or nothing) and words."""
    return (
        '<p class="legend" aria-hidden="true">'
        + " ".join((f'<i class="{cls}"></i>' if cls else "") + esc(words) for cls, words in marks)
        + "</p>"
    )


def glossary() -> str:
    """Return all definitions, each with the anchor that `term` links to."""
    entries = []
    for key, definition in DEFINITIONS.items():
        formula = f'<p class="formula">{esc(definition.formula)}</p>' if definition.formula else ""
        better = f"<p>{definition.better.capitalize()} is better.</p>" if definition.better else ""
        entries.append(
            f'<div class="entry" id="def-{key}" tabindex="-1"><h3>{esc(definition.title)}</h3>'
            f"<p>{esc(definition.text)}</p>{formula}{better}</div>"
        )
    return f'<div class="glossary">{"".join(entries)}</div>'
