"""The report's section about masks."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._format import column, count, esc, number, percent, shorten
from ._html import (
    Section,
    absent,
    cell,
    figure_cell,
    head,
    heat,
    level,
    name_cell,
    note,
    table,
    term,
)
from ._plots import heat_image

#: What the report shows at most; the JSON has all.
MOST_READERS = 20
MOST_IMAGES = 50


def pixels(analysis: Mapping[str, Any]) -> Section:
    """Readers' masks."""
    title = "Masks"
    found = analysis["pixels"]
    if found is None:
        return absent("masks", title, "There are no masks.")
    sentence = (
        f"{count(found['images'])} images, {count(len(found['readers']))} readers, "
        f"{count(found['pixels'])} pixels; {term('alpha_soft')} of the pixels "
        f"<strong>{number(found['alpha_soft'], 4)}</strong>."
    )
    if (model := found["model"]) is not None:
        sentence += (
            f" The model's {term('dice')} with the readers' mean is "
            f"<strong>{percent(model['dice']['value'])}</strong>; "
            f"{count(model['issues'])} pixels are {term('mask_issues', 'label issues')}."
        )
    readers = table(
        [
            head("Reader"),
            head("Images", "n"),
            head(term("dice", "Dice with the others"), "n"),
            head(term("iou", "IoU"), "n"),
            head(term("area"), "n"),
        ],
        [
            f"<tr>{name_cell(row['name'], 'th')}{cell(count(row['images']), row['images'])}"
            f"{figure_cell(row['dice'])}{figure_cell(row['iou'])}"
            f"{cell(percent(row['area']), row['area'])}</tr>"
            for row in found["reader"][:200]
        ],
        label="Readers",
        table_id="readers",
        sortable=True,
    )
    return Section(
        "masks",
        title,
        f'{note(sentence)}<div class="columns"><div>{readers}</div>{_dice_matrix(found)}</div>'
        f"{_maps(found)}{_images(found)}",
    )


def _dice_matrix(found: Mapping[str, Any]) -> str:
    names = found["readers"][:MOST_READERS]
    values = np.array([column(row) for row in found["pair"]["dice"]])[: len(names), : len(names)]
    off = values[np.isfinite(values)]
    if not len(off):
        return ""
    middle = float(off.mean())
    span = max(float(np.abs(off - middle).max()), 0.02)
    cells = []
    for i, row in enumerate(values):
        line = []
        for j, v in enumerate(row):
            tip = f"{names[i]} and {names[j]}"
            if i == j:
                line.append(("", "self", str(names[i])))
            elif not np.isfinite(v):
                line.append(("", "none", f"{tip}: no common image"))
            else:
                line.append((number(100 * v, 0), level(v, middle, span), f"{tip}: {number(v)}"))
        cells.append(line)
    grid = heat(names, names, cells, "Dice of pairs of readers")
    intro = note(f"Mean {term('dice')} of pairs, %; the mean of all is {percent(middle)}.")
    return f"<div>{intro}{grid}</div>"


_MAPS = (
    ("mean", "mean of the readers"),
    ("differs", "where readers differ"),
    ("issues", "pixels whose label looks wrong to the model"),
)


def _maps(found: Mapping[str, Any]) -> str:
    figures = []
    for row in found["map"]:
        shape = (row["height"], row["width"])
        name = esc(shorten(row["image"], 40))
        shown = []
        for key, what in _MAPS:
            if row[key] is not None:
                pixel = np.frombuffer(base64.b64decode(row[key]), np.uint8).reshape(shape)
                shown.append(f'<img alt="{name}: {what}" src="{heat_image(pixel)}">')
        figures.append(
            f'<figure><h4 title="{esc(row["image"])}">{name}</h4>'
            f'<div class="pair">{"".join(shown)}</div>'
            f"<figcaption>{count(row['readers'])} readers, Dice {number(row['dice'])}, "
            f"{percent(row['contested'])} {term('contested', 'contested')}</figcaption></figure>"
        )
    if not figures:
        return ""
    scale = heat_image(np.arange(256, dtype=np.uint8)[None, ::4])
    intro = (
        "The most contested images: first the readers' mean mask, then where they differ "
        "(dark: nobody, or no difference; bright: everybody, or evenly split)"
    )
    if found["model"] is not None:
        intro += ", then the pixels whose label looks wrong to the model"
    intro += "."
    return (
        f"<h3>Where readers differ</h3>{note(intro)}"
        f'<p class="legend">0 % <img alt="colour scale" src="{scale}" width="120" height="10"> '
        f"100 %</p>"
        f'<div class="maps">{"".join(figures)}</div>'
    )


_OF_MODEL = (
    ("model_dice", ("dice", "Dice with the model"), number),
    ("model_score", ("mask_score", "Model's score"), number),
    ("model_issues", ("mask_issues", "Label issues"), count),
)


def _images(found: Mapping[str, Any]) -> str:
    image = found["image"]
    contested = column(image["contested"])
    order = np.argsort(np.where(np.isfinite(contested), -contested, np.inf), kind="stable")
    of_model = _OF_MODEL if found["model"] is not None else ()
    rows = [
        f"<tr>{name_cell(image['name'][i], 'th')}{cell(count(image['readers'][i]))}"
        f"{cell(percent(image['contested'][i]), image['contested'][i])}"
        f"{cell(number(image['dice'][i]), image['dice'][i])}"
        f"{cell(number(image['iou'][i]), image['iou'][i])}"
        f"{cell(number(image['alpha'][i]), image['alpha'][i])}"
        + "".join(cell(write(image[key][i]), image[key][i]) for key, _, write in of_model)
        + "</tr>"
        for i in order[:MOST_IMAGES].tolist()
    ]
    more = ""
    if len(order) > MOST_IMAGES:
        more = f" The {MOST_IMAGES} most contested of {count(len(order))}."
    heads = [
        head("Image"),
        head("Readers", "n"),
        head(term("contested"), "n", "descending"),
        head(term("dice", "Dice"), "n"),
        head(term("iou", "IoU"), "n"),
        head(term("alpha_soft", "\N{GREEK SMALL LETTER ALPHA}"), "n"),
        *(head(term(key, title), "n") for (_, (key, title), _) in of_model),
    ]
    return f"<h3>Images</h3>{note('Means over pairs of readers.' + more)}" + table(
        heads, rows, label="Images", table_id="images", sortable=True
    )
