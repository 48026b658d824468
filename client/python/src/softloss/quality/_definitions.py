"""What every figure means: title, definition, formula. The report and docs/quality.md show them."""

# ruff: noqa: RUF001 (formulas have minus signs)

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Definition:
    """A figure's meaning.

    Attributes:
        title: what the report calls it.
        text: what it says, in one or two sentences.
        formula: how it is computed, as plain text; may be empty.
        better: which way is better: ``"higher"``, ``"lower"`` or ``""``.
    """

    title: str
    text: str
    formula: str = ""
    better: str = ""


DEFINITIONS: dict[str, Definition] = {
    "interval": Definition(
        "95 % interval",
        "If the annotator went on in the same way, the figure over very many votes would lie in"
        " such an interval 19 times of 20. Shares have Wilson's interval; means have a "
        "bootstrap interval over the annotator's votes. Few votes make it wide: judge the "
        "interval, not the point.",
        "Wilson: (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), z = 1.96",
    ),
    "soft_vote": Definition(
        "Vote",
        "A vote q is a distribution over the classes. A hard vote is 1 at its class and 0 "
        "elsewhere; every figure here then is the usual one for hard votes.",
        "q_k ≥ 0, Σ_k q_k = 1",
    ),
    "consensus": Definition(
        "Consensus",
        "What the votes on an item, taken together, say it is. With a model: CROWDLAB, which "
        "weighs the model and every annotator by how well they agree with others. Without: "
        "Dawid-Skene, which estimates each annotator's confusions, from counts with one added to "
        "each.",
        "CROWDLAB: (w_M·P_k + Σ_r w_r·(q_k·c + (1−q_k)(1−c)/(K−1))) / (w_M + Σ_r w_r)",
    ),
    "confidence": Definition(
        "Confidence",
        "The consensus probability of the consensus class of an item.",
        "max_k posterior_k",
        "higher",
    ),
    "votes": Definition(
        "Votes",
        "How many votes were counted.",
    ),
    "weight": Definition("Weight", "The sum of the votes' weights; without weights, their number."),
    "quality": Definition(
        "Quality",
        "How probable the annotator's own votes are by the consensus. With a model this is "
        "CROWDLAB's annotator quality, which also counts agreement with the consensus where "
        "others voted; without one, the mean posterior at the annotator's votes.",
        "v·mean_i Σ_k q_k·posterior_k + (1−v)·agreement with the consensus",
        "higher",
    ),
    "agreement_consensus": Definition(
        "Agreement with the others' consensus",
        "The share of the annotator's votes that equal the majority of the other annotators' votes "
        "on the same item; where several classes tie, it is shared out among them. The "
        "annotator's own vote is left out, so nobody agrees with themselves.",
        "mean_i Σ_k q_k·q'_k, q' the majority of the others' votes",
        "higher",
    ),
    "agreement_peers": Definition(
        "Agreement with peers",
        "Of all pairs of votes on the same item, one of them the annotator's: the share that "
        "agree.",
        "mean over pairs of Σ_k q_k·q'_k",
        "higher",
    ),
    "agreement_gold": Definition(
        "Agreement with gold",
        "The share of the annotator's votes on items with a known answer that are that answer.",
        "mean_i q_{gold(i)}",
        "higher",
    ),
    "agreement_model": Definition(
        "Agreement with the model",
        "The share of the annotator's votes that equal the model's likeliest class.",
        "mean_i q_{argmax P_i}",
        "higher",
    ),
    "accuracy": Definition(
        "Estimated accuracy",
        "The one-coin model's estimate of how often the annotator is right, from all votes "
        "together.",
        "",
        "higher",
    ),
    "cross_entropy": Definition(
        "Cross entropy against the model",
        "How surprised the model is by the annotator's votes, in nats.",
        "−Σ_k q_k ln P_k",
        "lower",
    ),
    "kl": Definition(
        "KL divergence from the model",
        "The cross entropy less the vote's own entropy: what differs, without what is uncertain.",
        "Σ_k q_k ln (q_k / P_k)",
        "lower",
    ),
    "js": Definition(
        "Jensen-Shannon divergence from the model",
        "A symmetric, bounded difference of vote and model, in nats; at most ln 2.",
        "H((q+P)/2) − (H(q)+H(P))/2",
        "lower",
    ),
    "brier": Definition(
        "Brier score against the model",
        "A squared difference.",
        "Σ_k (q_k − P_k)²",
        "lower",
    ),
    "tv": Definition(
        "Total variation from the model",
        "The share of probability that would have to move to turn one into the other.",
        "½ Σ_k |q_k − P_k|",
        "lower",
    ),
    "alpha_nominal": Definition(
        "Krippendorff's α (nominal)",
        "Agreement beyond chance for classes without order: 1 is perfect, 0 is what random "
        "votes of the same class shares would reach. From 0.8 on reliable, below 0.667 not, is "
        "a common rule.",
        "1 − observed disagreement / expected disagreement",
        "higher",
    ),
    "alpha_ordinal": Definition(
        "Krippendorff's α (ordinal)",
        "The same for classes in order: near misses count less. Meaningful if the order of the "
        "classes is.",
        "distance of c and k: (Σ of counts between them, half the ends)²",
        "higher",
    ),
    "alpha_interval": Definition(
        "Krippendorff's α (interval)",
        "The same for classes that are numbers: distances are squared differences of class "
        "numbers.",
        "distance (c − k)²",
        "higher",
    ),
    "alpha_soft": Definition(
        "Soft α",
        "Krippendorff's α for votes that are distributions. Equals the nominal α for hard votes.",
        "distance ‖q − q'‖²",
        "higher",
    ),
    "fleiss_kappa": Definition(
        "Fleiss' κ",
        "Agreement beyond chance of interchangeable annotators. Items may have different numbers "
        "of votes; each counts once.",
        "(p_o − p_e) / (1 − p_e), p_e = Σ_k p_k²",
        "higher",
    ),
    "cohen_kappa": Definition(
        "Cohen's κ",
        "Agreement of pairs of annotators beyond chance, all pairs together.",
        "(p_o − p_e) / (1 − p_e), p_o and p_e pooled over pairs",
        "higher",
    ),
    "percent": Definition(
        "Pairwise agreement",
        "The share of pairs of votes on the same item that agree, averaged over items.",
        "mean_i mean over pairs of Σ_k q_k·q'_k",
        "higher",
    ),
    "pair": Definition(
        "Agreement of a pair",
        "Over the items that both annotated: how often they agree. The row of the model "
        "compares with its likeliest class. Cells without a common item are empty.",
        "mean_i Σ_k q_k·q'_k",
        "higher",
    ),
    "confusion": Definition(
        "Confusion",
        "How much of the votes on items whose consensus is the row's class went to the column's"
        " class.",
        "Σ_i posterior_i,row · q_i,column, rows divided by their sum",
    ),
    "class_agreement": Definition(
        "Agreement in a class",
        "How much of the votes goes to the class on items whose consensus it is.",
        "mean of q_k over votes on items whose consensus is k",
        "higher",
    ),
    "prior": Definition(
        "Share",
        "The class's share of the consensus.",
        "mean_i posterior_i,k",
    ),
    "threshold": Definition(
        "Threshold",
        "The model's mean probability of the class on items voted so. Confident learning takes an "
        "item for class k where P_k reaches t_k.",
        "t_k = Σ_i q̄_ik·P_ik / Σ_i q̄_ik",
    ),
    "label_issues": Definition(
        "Label issues",
        "Items whose majority label the model contradicts with confidence: confident learning, "
        "pruned by noise rate.",
        "",
        "lower",
    ),
    "estimated_noise": Definition(
        "Estimated noise",
        "The share of the items of this majority label whose class confident learning takes to be "
        "another.",
        "1 − joint_kk / Σ_j joint_kj",
        "lower",
    ),
    "ece": Definition(
        "Expected calibration error",
        "How far the model's confidence is from how often it is right by the votes, "
        "averaged over 15 bins, of equal width or of equal mass.",
        "Σ_bins share · |accuracy − confidence|",
        "lower",
    ),
    "reliability": Definition(
        "Reliability",
        "Items in bins of the model's confidence: a calibrated model is right as often as it is"
        " confident, which is the diagonal. Above it the model is too timid, below it too sure.",
    ),
    "ambiguity": Definition(
        "Ambiguity",
        "The entropy of an item's mean vote: how far apart the votes are, or how unsure each "
        "is. High ambiguity is a property of the item (or of the guidelines), not a mistake of "
        "anybody.",
        "H(q̄) = mean_r H(q_r) + JS(q_1 … q_m), in nats",
    ),
    "error": Definition(
        "Error",
        "What the model's cross entropy holds beyond the votes' ambiguity. Votes that are sure "
        "and contradict the model lie high on the left: check those labels first.",
        "KL(q̄ ‖ P) = CE(q̄, P) − H(q̄), in nats",
        "lower",
    ),
    "item_agreement": Definition(
        "Agreement on an item",
        "The share of the pairs of its votes that agree; of items with at least two votes.",
        "mean over pairs of Σ_k q_k·q'_k",
        "higher",
    ),
    "drift": Definition(
        "Drift",
        "Agreement with the others' consensus in windows of as many votes each, by time. It is an "
        "alert if the last window's interval lies wholly under that of all windows before it "
        "together.",
    ),
    "score": Definition(
        "Label quality",
        "The consensus probability of the class that most voted for. The worklist has the lowest "
        "first; among equals the item where one more vote is worth most (ActiveLab).",
        "posterior_k of the majority's class k; ActiveLab: (W·quality + w̄/K) / (W + w̄)",
        "higher",
    ),
    "suggested": Definition(
        "Suggested label",
        "The consensus class, which the item would get without another vote.",
    ),
    "spammer_score": Definition(
        "Spammer score",
        "How much a vote tells of the true class: 0 of somebody who votes without looking (the "
        "rows of the confusion matrix are equal), 1 of somebody who never errs. After Raykar and "
        "Yu, Eliminating spammers and ranking annotators for crowdsourced labeling tasks, JMLR 13 "
        "(2012).",
        "mean over pairs of true classes of ½ Σ_k |e_ck − e_sk|",
        "higher",
    ),
    "class_collapse": Definition(
        "Class collapse",
        "An annotator gives one class nearly always, and far more often than the consensus of the "
        "same items has it.",
        "Σ w·q_k / Σ w, against the mean posterior of k on the same items",
    ),
    "dice": Definition(
        "Soft Dice",
        "Overlap of two masks: twice their intersection over their sum; 1 if both are empty. A "
        "reader's figure compares with the mean of the other readers, image by image.",
        "(Σa + Σb − Σ|a−b|) / (Σa + Σb)",
        "higher",
    ),
    "iou": Definition(
        "Soft IoU",
        "Intersection over union of two masks, with the same intersection as Dice.",
        "I / (Σa + Σb − I), I = (Σa + Σb − Σ|a−b|) / 2",
        "higher",
    ),
    "contested": Definition(
        "Contested",
        "Of the pixels that any reader marked, the share that not all marked alike.",
        "",
        "lower",
    ),
    "mask_score": Definition(
        "Mask score",
        "How well the model bears out the labels of an image's pixels (each pixel's majority): "
        "near the lowest of its probabilities of them, yet moved by all that are low.",
        "Σ s·e^((1−s)/T) / Σ e^((1−s)/T), s = P(label) of a pixel, T = 0.1",
        "higher",
    ),
    "mask_issues": Definition(
        "Pixel label issues",
        "Pixels whose majority label the model contradicts more surely than it is sure of that "
        "other class on average (confident learning over the pixels of all images).",
    ),
    "area": Definition(
        "Area",
        "The mean share of an image that the reader marks.",
    ),
}
