"""A synthetic campaign and its analysis in the schema, by plain NumPy: something to render."""

from __future__ import annotations

from typing import Any

import numpy as np


def figure(values: Any) -> dict[str, Any] | None:
    """The mean of some numbers with a normal interval."""
    values = np.asarray(values, float)
    if not len(values):
        return None
    half = 1.96 * values.std() / np.sqrt(len(values))
    mean = values.mean()
    return {"value": mean, "low": mean - half, "high": mean + half, "n": len(values)}


def sample_analysis(
    *,
    annotators: int = 14,
    items: int = 600,
    classes: tuple[str, ...] = ("cat", "dog", "fox", "owl", "seal"),
    votes_an_item: int = 4,
    predictions: bool = True,
    gold: bool = True,
    times: bool = True,
    masks: bool = True,
    names: list[str] | None = None,
    seed: int = 5,
) -> dict[str, Any]:
    """Make an analysis; annotator 1 votes at random, annotator 2 mostly says the first class."""
    rng = np.random.default_rng(seed)
    k = len(classes)
    names = names or [f"annotator-{i:03d}" for i in range(annotators)]
    votes_an_item = min(votes_an_item, annotators)
    truth = rng.choice(k, items, p=np.linspace(2, 1, k) / np.linspace(2, 1, k).sum())
    hard = rng.beta(1.2, 4, items)  # how ambiguous each item is
    skill = np.clip(rng.normal(0.9, 0.05, annotators), 0.6, 0.99)
    who = np.argsort(rng.random((items, annotators)), 1)[:, :votes_an_item]
    vote = np.empty_like(who)
    for i in range(items):
        for j, a in enumerate(who[i]):
            right = rng.random() < skill[a] * (1 - 0.6 * hard[i])
            vote[i, j] = truth[i] if right else (truth[i] + rng.choice([1, 1, 1, *range(1, k)])) % k
            if a == 1:
                vote[i, j] = rng.integers(k)
            if a == 2 and rng.random() < 0.7:
                vote[i, j] = 0
    share = np.stack([(vote == c).mean(1) for c in range(k)], 1)
    model = rng.dirichlet(np.full(k, 0.4), items) * 0.3
    model[np.arange(items), truth] += 0.7
    model /= model.sum(1, keepdims=True)
    posterior = share * (model if predictions else 1) + 1e-3
    posterior /= posterior.sum(1, keepdims=True)
    consensus = posterior.argmax(1)
    confidence = posterior.max(1)
    log_model = -np.log(model)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(1)
    agreement = ((share * votes_an_item) ** 2).sum(1) - votes_an_item
    agreement /= max(votes_an_item * (votes_an_item - 1), 1)
    known = rng.random(items) < 0.1

    def rows(a: int) -> tuple[np.ndarray, np.ndarray]:
        i, j = np.nonzero(who == a)
        return i, vote[i, j]

    people = []
    confusion_all = np.zeros((k, k))
    for a in range(annotators):
        i, v = rows(a)
        others = share[i] * votes_an_item
        others[np.arange(len(i)), v] -= 1
        confusion = np.full((k, k), 0.5)
        np.add.at(confusion, (truth[i], v), 1)
        np.add.at(confusion_all, (consensus[i], v), 1)
        own = np.eye(k)[v]
        p = model[i]
        people.append(
            {
                "name": names[a],
                "votes": len(i),
                "weight": float(skill[a]),
                "quality": figure(posterior[i, v]),
                "agreement_consensus": figure(others.argmax(1) == v),
                "agreement_peers": figure(others[np.arange(len(i)), v] / (votes_an_item - 1))
                if votes_an_item > 1
                else None,
                "agreement_gold": figure((truth[i] == v)[known[i]]) if gold else None,
                "agreement_model": figure(model[i].argmax(1) == v) if predictions else None,
                "cross_entropy": figure(log_model[i, v]) if predictions else None,
                "kl": figure(log_model[i, v]) if predictions else None,
                "js": figure(0.5 * np.abs(own - p).sum(1) * 0.6) if predictions else None,
                "brier": figure(((own - p) ** 2).sum(1)) if predictions else None,
                "tv": figure(0.5 * np.abs(own - p).sum(1)) if predictions else None,
                "spammer_score": 0.8,
                "accuracy": float((truth[i] == v).mean()) if len(i) else None,
                "confusion": (confusion / confusion.sum(1, keepdims=True)).tolist(),
                "class_share": own.mean(0).tolist() if len(i) else [None] * k,
                "mean_time": None,
            }
        )
    pair_names = [*names, "model"] if predictions else list(names)
    size = len(pair_names)
    same, common = np.zeros((size, size)), np.zeros((size, size), int)
    for i in range(items):
        labels = [*vote[i], *([model[i].argmax()] if predictions else [])]
        ids = [*who[i], *([annotators] if predictions else [])]
        for x, lx in zip(ids, labels, strict=True):
            for y, ly in zip(ids, labels, strict=True):
                common[x, y] += 1
                same[x, y] += lx == ly
    off = [
        {"consensus": c, "vote": v, "count": confusion_all[c, v],
         "share": confusion_all[c, v] / confusion_all[c].sum()}
        for c in range(k) for v in range(k) if c != v and confusion_all[c, v] > 0
    ]  # fmt: skip
    off.sort(key=lambda row: -row["count"])
    urgency = confidence * np.where(agreement < 1, 0.9, 1)
    worst = np.argsort(urgency, kind="stable")[:40]
    issue = predictions & (model[np.arange(items), consensus] < 0.15)
    self_confidence = (share * model).sum(1)
    margin = model[np.arange(items), consensus] - np.sort(model, 1)[:, -2]
    counts = np.histogram(agreement, np.linspace(0, 1, 21))[0]

    def optional(column: np.ndarray) -> list[float] | None:
        return column.tolist() if predictions else None

    drift = None
    if times:
        drift = [
            {
                "annotator": names[a],
                "window": [
                    {
                        "start": 1.7e9 + 86400 * 7 * w,
                        "end": 1.7e9 + 86400 * 7 * (w + 1),
                        "n": 30,
                        "agreement": figure(
                            rng.random(30) < skill[a] - (0.06 * w if a == 5 else 0.0)
                        ),
                    }
                    for w in range(8)
                ],
            }
            for a in range(min(annotators, 20))
        ]
    bins = [
        {"low": b / 15, "high": (b + 1) / 15, "count": int(20 + 8 * b * b),
         "confidence": (b + 0.5) / 15, "accuracy": min(1.0, ((b + 0.5) / 15) ** 0.8)}
        for b in range(15)
    ]  # fmt: skip
    return {
        "schema": "softloss.quality/1",
        "version": "0.0.0",
        "classes": list(classes),
        "annotators": list(names),
        "counts": {
            "items": items,
            "votes": items * votes_an_item,
            "annotators": annotators,
            "items_with_votes": items,
            "items_with_two_votes": items if votes_an_item > 1 else 0,
            "predictions": items if predictions else 0,
            "gold": int(known.sum()) if gold else 0,
        },
        "consensus": {
            "method": "crowdlab" if predictions else "dawid_skene",
            "skill_name": "quality",
        },
        "annotator": people,
        "pair": {
            "names": pair_names,
            "agreement": [
                [same[x, y] / common[x, y] if common[x, y] else None for y in range(size)]
                for x in range(size)
            ],
            "items": common.tolist(),
        },
        "confusion": confusion_all.tolist(),
        "confusion_pairs": off[:50],
        "class": [
            {
                "name": classes[c],
                "votes": int((vote == c).sum()),
                "consensus_items": int((consensus == c).sum()),
                "prior": float(posterior[:, c].mean()),
                "agreement": float(agreement[consensus == c].mean())
                if (consensus == c).any()
                else None,
                "threshold": float(model[:, c].mean()) if predictions else None,
                "label_issues": int(issue[consensus == c].sum()) if predictions else None,
                "estimated_noise": float(issue[consensus == c].mean())
                if predictions and (consensus == c).any()
                else None,
            }
            for c in range(k)
        ],
        "agreement": {
            "alpha_nominal": 0.6123,
            "alpha_ordinal": 0.6421,
            "alpha_interval": 0.6533,
            "alpha_soft": 0.6123,
            "fleiss_kappa": 0.6119,
            "cohen_kappa": 0.6087,
            "percent": float(agreement.mean()),
        },
        "agreement_histogram": {
            "edges": np.linspace(0, 1, 21).tolist(),
            "count": counts.tolist(),
        },
        "calibration": {
            "model": {"ece_equal_width": 0.0412, "ece_equal_mass": 0.0398, "bins": bins}
        }
        if predictions
        else None,
        "item": {
            "name": [f"item-{i:05d}" for i in range(items)],
            "votes": [votes_an_item] * items,
            "consensus": consensus.tolist(),
            "majority": share.argmax(1).tolist(),
            "label_quality": posterior[np.arange(items), share.argmax(1)].tolist(),
            "confidence": confidence.tolist(),
            "entropy": entropy.tolist(),
            "mean_entropy": [0.0] * items,
            "js": entropy.tolist(),
            "agreement": agreement.tolist(),
            "model_cross_entropy": optional((share * log_model).sum(1)),
            "self_confidence": optional(self_confidence),
            "normalized_margin": optional((margin + 1) / 2),
            "active_lab": (confidence * 0.95).tolist(),
            "issue": issue.tolist() if predictions else None,
        },
        "worklist": [
            {
                "item": f"item-{i:05d}",
                "rank": rank,
                "score": float(urgency[i]),
                "given": int(share[i].argmax()),
                "suggested": int(consensus[i]),
                "confidence": float(confidence[i]),
                "reason": "the votes are split" if agreement[i] < 0.5 else "the model disagrees",
            }
            for rank, i in enumerate(worst, 1)
        ],
        "drift": drift,
        "options": {"min_agreement": 0.5},
        "provenance": {
            "sources": [
                {
                    "name": "votes.csv",
                    "rows": items * votes_an_item + 1,
                    "columns": {"item": "task", "annotator": "worker", "label": "label"},
                    "guessed": ["item", "annotator", "label"],
                    "notes": [],
                }
            ],
            "notes": ["model.npz: predictions of all items"] if predictions else [],
            "bad_row_count": 1,
            "bad_rows": [{"source": "votes.csv", "line": 17, "reason": "worker: there is none"}],
        },
        "pixels": sample_pixels(rng) if masks else None,
        "alerts": [
            {
                "kind": "below_threshold",
                "annotator": names[1 % annotators],
                "metric": "agreement_consensus",
                "value": 0.21,
                "low": 0.16,
                "high": 0.27,
                "threshold": 0.5,
                "message": "agreement with the others' consensus is below 0.50 with its interval",
            },
            {
                "kind": "spammer",
                "annotator": names[1 % annotators],
                "metric": "spammer_score",
                "value": 0.012,
                "low": None,
                "high": None,
                "threshold": 0.05,
                "message": "votes hardly depend on the true class",
            },
        ],
    }


def sample_pixels(rng: np.random.Generator) -> dict[str, Any]:
    """The analysis of four readers' discs, by the package."""
    from softloss.quality import analyze_masks

    return analyze_masks(sample_masks(rng)).pixels


def sample_masks(rng: np.random.Generator, images: int = 12, readers: int = 4) -> np.ndarray:
    """Discs of [images, readers, 48, 64] whose outlines the readers draw differently."""
    y, x = np.mgrid[:48, :64]
    masks = np.zeros((images, readers, 48, 64), np.uint8)
    for i in range(images):
        centre, radius = rng.uniform([16, 20], [32, 44]), rng.uniform(8, 14)
        for r in range(readers):
            own = centre + rng.normal(0, 1 + r, 2)
            masks[i, r] = (y - own[0]) ** 2 + (x - own[1]) ** 2 < (radius + rng.normal(0, 1)) ** 2
    return masks
