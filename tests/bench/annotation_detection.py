"""Planted faults: how well softloss, cleanlab and crowd-kit find them in the same votes.

40 people vote on CIFAR-10's test set, 4 an item, beside the real predictions of a model: 32 of accuracy
0.7 to 0.95, 4 who guess and 4 who always name one class. People are less sure where they are wrong,
and then hold the true class second: softloss sees that, the others each vote's likeliest class.
"""

import pathlib

import numpy as np
import pandas as pd
from softloss import _softloss as native

PEOPLE, EACH, BAD = 40, 4, 8


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive has a higher score than another, ties counting half."""
    ranks = pd.Series(score).rank().to_numpy()
    n = positive.sum()
    return (ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n))


def draw(truth: np.ndarray, classes: int) -> dict:
    """Soft votes, as QualityVotes takes them, and whether each names another class."""
    rng = np.random.default_rng(7)
    items = len(truth)
    who = np.argsort(rng.random((items, PEOPLE)), axis=1)[:, :EACH]
    who.sort(axis=1)
    person, item = who.ravel(), np.repeat(np.arange(items), EACH)
    true = truth[item]
    accuracy = np.concatenate([np.linspace(0.7, 0.95, PEOPLE - BAD), np.full(BAD, 1 / classes)])
    other = (true + rng.integers(1, classes, len(true))) % classes
    voted = np.where(rng.random(len(true)) < accuracy[person], true, other)
    fixed = person >= PEOPLE - BAD // 2
    voted[fixed] = person[fixed] % classes
    bad = person >= PEOPLE - BAD
    right = voted == true
    # What is held second: the truth, of those who know something; of others anything.
    second = np.where(right | bad, (voted + rng.integers(1, classes, len(true))) % classes, true)
    sure = np.where(right | bad, rng.beta(8, 2, len(true)), rng.beta(4, 3, len(true)))
    sure = 0.55 + 0.4 * sure
    q = np.full((len(true), classes), 0.0)
    rows = np.arange(len(true))
    q[rows, second] = 0.8 * (1 - sure)
    q += (0.2 * (1 - sure) / classes)[:, None]
    q[rows, voted] += sure
    return {
        "num_items": items,
        "num_annotators": PEOPLE,
        "num_classes": classes,
        "item": item.astype(np.int64),
        "annotator": person.astype(np.int32),
        "probabilities": q / q.sum(1, keepdims=True),
    }


def detection(report, data: pathlib.Path) -> None:
    from cleanlab.multiannotator import get_label_quality_multiannotator
    from crowdkit.aggregation import DawidSkene, Wawa

    folder = data / "label-errors-cifar10"
    truth = np.load(folder / "cifar10_test_set_original_labels.npy").astype(np.int64)
    predictions = np.load(folder / "cifar10_test_set_pyx.npy").astype(np.float64)
    predictions /= predictions.sum(1, keepdims=True)
    soft = draw(truth, predictions.shape[1])
    item, person = soft["item"], soft["annotator"]
    named = soft["probabilities"].argmax(1)
    hard = soft | {"probabilities": None, "label": named.astype(np.int32)}
    wrong = named != truth[item]
    bad = np.arange(PEOPLE) >= PEOPLE - BAD

    table = np.full((len(truth), PEOPLE), np.nan)
    table[item, person] = named
    theirs = get_label_quality_multiannotator(table, predictions, verbose=False)
    quality = theirs["detailed_label_quality"].to_numpy()[item, person]
    people = theirs["annotator_stats"].sort_index()["annotator_quality"].to_numpy()
    label = theirs["label_quality"]["consensus_label"].to_numpy()
    frame = pd.DataFrame({"task": item, "worker": person, "label": named})

    ours = {
        name: native.quality_crowdlab(native.QualityVotes(**v), predictions=predictions)
        for name, v in (("hard", hard), ("soft", soft))
    }
    for name, fit in ours.items():
        # Soft votes agree less, so that CROWDLAB trusts their people less: told, not demanded.
        bar = {"at_least": 0.999} if name == "hard" else {}
        against = f"{name} CROWDLAB; cleanlab"
        own = fit["posterior"][item, named]
        found = auroc(-own, wrong), auroc(-quality, wrong)
        report.add(f"wrong votes, {against}", "AUROC", *found, **bar)
        found = auroc(-fit["skill"], bad), auroc(-people, bad)
        report.add(f"bad people, {against}", "AUROC", *found, **bar)
        right = (fit["label"] == truth).mean(), (label == truth).mean()
        report.add(f"consensus, {against}", "accuracy", *right, **bar)

    theirs = DawidSkene(n_iter=100).fit(frame)
    posterior = theirs.probas_.sort_index()[list(range(predictions.shape[1]))].to_numpy()
    skill = Wawa().fit(frame).skills_.sort_index().to_numpy()
    for name, v in (("hard", hard), ("soft", soft)):
        fit = native.quality_dawid_skene(native.QualityVotes(**v), smoothing=1.0)
        own = fit["posterior"][item, named]
        found = auroc(-own, wrong), auroc(-posterior[item, named], wrong)
        against = f"{name} Dawid-Skene, smoothed; crowd-kit"
        report.add(f"wrong votes, {against}", "AUROC", *found, at_least=0.999)
        found = auroc(-fit["skill"], bad), auroc(-skill, bad)
        report.add(f"bad people, {against}'s Wawa", "AUROC", *found, at_least=0.999)
        right = (fit["posterior"].argmax(1) == truth).mean(), (posterior.argmax(1) == truth).mean()
        report.add(f"consensus, {against}", "accuracy", *right, at_least=0.999)
