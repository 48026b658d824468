"""``softloss quality``: analyse votes from files, write reports, and fail a pipeline that must."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._errors import SoftlossError
from ._campaigns import Campaigns
from ._limits import AGREEMENT_METRICS, ANNOTATOR_METRICS
from ._native import AnalysisOptions
from ._pixels import PixelQuality, analyze_masks
from ._quality import Quality, analyze, prepare
from ._reader import read_votes
from ._states import State, Summary, merge_states, summarize
from ._votes import InputError, VoteTable

#: Exit statuses: all is well; the input or its use is wrong; (2 is argparse's: the command line is
#: wrong;) an alert was raised or a limit not reached.
OK, WRONG_INPUT, ALERTED = 0, 1, 3

_EPILOG = f"""\
softloss quality merge STATE… adds up files made with --state and shows what they say together

inputs: CSV (.csv, .tsv, .txt, also .gz), Parquet, npz, Label Studio JSON exports; a row is a vote

exit status: 0 all is well; 1 wrong input; 2 wrong command line; 3 an alert, or a limit not reached

figures of --fail-under: {", ".join(AGREEMENT_METRICS)}; and of annotators, where the whole interval
must be under the limit: {", ".join(ANNOTATOR_METRICS)}
"""


def add_command(commands: Any) -> None:
    """Add ``quality`` to the subcommands of an argument parser."""
    parser = commands.add_parser(
        "quality",
        help="how good annotators' labels are",
        description="Analyse votes: how good are these labels, by annotator, item, class, pixel.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", nargs="*", metavar="INPUT", help="votes")
    parser.add_argument("--predictions", metavar="FILE", help="a model's: npy, npz, CSV, Parquet")
    parser.add_argument("--gold", metavar="FILE", help="known answers: a table of item and label")
    parser.add_argument(
        "--masks", metavar="FILE", action="append", default=[],
        help="readers' masks: npy, npz, COCO JSON; several COCO files are one a reader",
    )  # fmt: skip
    parser.add_argument(
        "--mask-predictions", metavar="FILE",
        help="a model's probabilities of the pixels: npy, npz of [images, H, W]",
    )  # fmt: skip
    parser.add_argument(
        "--columns", metavar="ROLE=NAME", action="append", default=[], type=_pair,
        help="the column of item, annotator, label, probabilities (A,B,…), weight or time",
    )  # fmt: skip
    parser.add_argument("--classes", metavar="A,B,…", help="the classes in order")
    parser.add_argument(
        "--skip-bad-rows", action="store_true", help="leave malformed rows out, and say so"
    )
    parser.add_argument("--report", metavar="FILE.html", help="write the report")
    parser.add_argument("--title", help="the report's title")
    parser.add_argument("--item-url", metavar="URL", help="where an item is, with {item}")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON")
    parser.add_argument("--worklist", metavar="FILE.csv", help="write what to label again")
    parser.add_argument(
        "--consensus", metavar="FILE", help="write soft labels: .safetensors or .parquet"
    )
    parser.add_argument("--state", metavar="FILE.slqs", help="write sums that merge")
    parser.add_argument(
        "--shard", metavar="NAME", help="of the state; by default the inputs' names"
    )
    parser.add_argument("--out", metavar="FILE.slqs", help="merge: write the merged state")
    parser.add_argument(
        "--fail-under", metavar="FIGURE=VALUE", action="append", default=[], type=_limit,
        help="exit with 3 where a figure is under a value",
    )  # fmt: skip
    parser.add_argument(
        "--allow-alerts", action="store_true", help="exit with 0 although there are alerts"
    )
    server = parser.add_argument_group(
        "on a server", "feed the votes, if any, to a campaign, and analyse all that it has"
    )
    server.add_argument(
        "--address", metavar="TARGET", help="localhost:7070, unix:/run/softloss.sock"
    )
    server.add_argument("--campaign", metavar="NAME", help="opened if it is not there")
    _add_options(parser)
    parser.set_defaults(run=run)


def _add_options(parser: argparse.ArgumentParser) -> None:
    defaults = AnalysisOptions()
    group = parser.add_argument_group("analysis and alerts")
    group.add_argument(
        "--calibrate-predictions", action="store_true",
        help="scale predictions by the temperature that fits the votes best, before all else",
    )  # fmt: skip
    group.add_argument(
        "--method", default=defaults.method,
        choices=("auto", "crowdlab", "dawid_skene", "one_coin", "wawa", "majority"),
        help="the consensus; auto: crowdlab with predictions, otherwise dawid_skene",
    )  # fmt: skip
    for name, words in (
        ("min_agreement", "alert: agreement with its whole interval under this"),
        ("min_votes", "no alert for annotators with fewer"),
        ("spammer_score", "alert: a score under this"),
        ("collapse_share", "alert: more votes than this share in one class, and …"),
        ("collapse_excess", "… so much more than the consensus has"),
    ):
        group.add_argument(
            f"--{name.replace('_', '-')}", type=float, default=getattr(defaults, name),
            metavar="X", help=f"{words} (default %(default)s)",
        )  # fmt: skip
    for name, words in (
        ("bootstrap_replicates", "for intervals of means"),
        ("worklist_items", "at most"),
        ("drift_windows", "of time, at most"),
        ("threads", "0: one a core"),
    ):
        group.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name),
            metavar="N", help=f"{words} (default %(default)s)",
        )  # fmt: skip


def _pair(text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if not equals or not role or not name:
        raise argparse.ArgumentTypeError(f"must be ROLE=NAME; was {text!r}")
    return role, name


def _limit(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    if name not in (*AGREEMENT_METRICS, *ANNOTATOR_METRICS) or not equals:
        raise argparse.ArgumentTypeError(f"must be FIGURE=VALUE of a known figure; was {text!r}")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{name} must be a number; was {value!r}") from None


def _say(*words: object) -> None:
    print("softloss quality:", *words, file=sys.stderr)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    try:
        if args.mask_predictions and not args.masks:
            raise InputError("mask_predictions: needs masks", field="mask_predictions")
        if args.masks and not args.input and not args.campaign:
            return _masks_alone(args)
        quality = _merge(args) if args.input[:1] == ["merge"] else _analyze(args)
        _write(quality, args)
    except SoftlossError as error:
        _say(error)
        return WRONG_INPUT
    except OSError as error:
        _say(f"{error.filename or ''}: {error.strerror or error}")
        return WRONG_INPUT
    analysis = quality.to_dict()
    for line in summary(analysis):
        print(line)
    failed = quality.fails_under(dict(args.fail_under))
    for reason in failed:
        _say("limit:", reason)
    if failed or (quality.alerts and not args.allow_alerts):
        return ALERTED
    return OK


def _analyze(args: argparse.Namespace) -> Quality:
    if bool(args.address) != bool(args.campaign):
        raise InputError("address: goes with campaign", field="address")
    if not args.input and not args.campaign:
        raise InputError("input: must be at least one file; was none", field="input")
    votes = _read(args) if args.input else None
    options = _options(args)
    if args.campaign:
        return _on_server(args, votes, options)
    if args.state and votes is not None:
        _save_state(args, votes)
    quality = analyze(
        votes,
        args.predictions,
        args.gold,
        _masks(args.masks),
        args.mask_predictions,
        skip_bad_rows=args.skip_bad_rows,
        options=options,
    )
    for note in quality.analysis["provenance"]["notes"]:
        _say(note)
    return quality


def _options(args: argparse.Namespace) -> AnalysisOptions:
    names = [name for name in AnalysisOptions.__dataclass_fields__ if hasattr(args, name)]
    return AnalysisOptions(**{name: getattr(args, name) for name in names})


def _save_state(args: argparse.Namespace, votes: VoteTable) -> None:
    shard = args.shard or ", ".join(source.name for source in votes.sources)
    state = summarize(
        votes,
        args.predictions,
        args.gold,
        shard=shard,
        bootstrap_replicates=args.bootstrap_replicates,
    )
    state.save(args.state)
    _say(f"wrote {args.state}: shard {shard!r}")


def _merge(args: argparse.Namespace) -> Summary:
    for name in ("worklist", "consensus", "state", "predictions", "gold", "masks", "campaign",
                 "mask_predictions"):  # fmt: skip
        if getattr(args, name):
            raise InputError(f"{name}: needs votes, not states", field=name)
    state = merge_states([State.load(path) for path in args.input[1:]])
    if args.out:
        state.save(args.out)
        _say("wrote", args.out)
    return state.read(_options(args))


def _read(args: argparse.Namespace) -> VoteTable:
    classes = None
    if args.classes is not None:
        classes = [name.strip() for name in args.classes.split(",")]
    votes = read_votes(
        args.input,
        columns=dict(args.columns),
        classes=classes,
        skip_bad_rows=args.skip_bad_rows,
    )
    for source in votes.sources:
        _say(source)
    if votes.bad_rows:
        rows = "row was" if len(votes.bad_rows) == 1 else "rows were"
        _say(f"{len(votes.bad_rows):,} malformed {rows} left out, the first: {votes.bad_rows[0]}")
    _say(
        f"{len(votes):,} votes of {len(votes.annotators):,} annotators on "
        f"{len(votes.items):,} items"
    )
    return votes


def _on_server(
    args: argparse.Namespace, votes: VoteTable | None, options: AnalysisOptions
) -> Quality:
    if votes is None and (args.predictions or args.gold):
        raise InputError("campaign: predictions and gold come with votes", field="campaign")
    campaigns = Campaigns(args.address)
    if votes is not None:
        prepared = prepare(votes, args.predictions, args.gold)
        votes = prepared.votes
        campaigns.open(args.campaign, votes.classes)
        fed = campaigns.feed(args.campaign, votes)
        _say(f"fed {fed.accepted:,} new votes; {fed.duplicates:,} were there already")
        for values, feed in (
            (prepared.predictions, campaigns.feed_predictions),
            (prepared.gold, campaigns.feed_gold),
        ):
            if values is not None:
                present = np.flatnonzero(np.isfinite(values).all(1))
                feed(args.campaign, [votes.items[i] for i in present], values[present])
        if fed.errors:
            row, reason = fed.errors[0]
            raise InputError(f"{len(fed.errors):,} votes were refused, the first: {row}: {reason}")
    quality = campaigns.analyze(args.campaign, all_items=True, options=options)
    if args.masks:
        quality.analysis["pixels"] = _compare_masks(args).pixels
    return quality


def _masks(paths: Sequence[str]) -> Any:
    if not paths:
        return None
    if len(paths) > 1 and not all(path.lower().endswith(".json") for path in paths):
        raise InputError("masks: several files must be COCO's, one a reader", field="masks")
    return paths[0] if len(paths) == 1 else list(paths)


def _compare_masks(args: argparse.Namespace) -> PixelQuality:
    found = analyze_masks(
        _masks(args.masks),
        args.mask_predictions,
        skip_bad_rows=args.skip_bad_rows,
        threads=args.threads,
    )
    if left_out := found.provenance["bad_row_count"]:
        _say(f"{left_out:,} masks were left out, the first: {found.provenance['bad_rows'][0]}")
    return found


def _masks_alone(args: argparse.Namespace) -> int:
    given = ("predictions", "gold", "worklist", "fail_under")
    if extra := [name for name in given if getattr(args, name)]:
        raise InputError(f"{extra[0]}: needs votes", field=extra[0])
    found = _compare_masks(args)
    if args.consensus:
        found.write_consensus(args.consensus)
        _say("wrote", args.consensus)
    if args.report:
        found.report(args.report, title=args.title)
    if args.json:
        found.to_json(args.json)
    pixels = found.pixels
    alpha = pixels["alpha_soft"]
    print(
        f"images {pixels['images']}  readers {len(pixels['readers'])}  "
        f"pixels {pixels['pixels']}  alpha_soft {'-' if alpha is None else f'{alpha:.4f}'}"
    )
    for reader in pixels["reader"]:
        if reader["dice"] is not None:
            print(f"reader  {reader['name']}  dice {reader['dice']['value']:.4f}")
    if (model := pixels["model"]) is not None:
        print(f"model  dice {model['dice']['value']:.4f}  pixels that look wrong {model['issues']}")
    return OK


def _write(quality: Quality | Summary, args: argparse.Namespace) -> None:
    if args.json:
        quality.to_json(args.json)
    if isinstance(quality, Quality):
        if args.report:
            quality.report(args.report, title=args.title, item_url=args.item_url)
        if args.worklist:
            quality.write_worklist(args.worklist)
        if args.consensus:
            quality.write_consensus(args.consensus)
    elif args.report:
        quality.report(args.report, title=args.title)
    written = [path for path in (args.report, args.json, args.worklist, args.consensus) if path]
    if written:
        _say("wrote", ", ".join(written))


def summary(analysis: Mapping[str, Any]) -> list[str]:
    """Return an analysis in a few lines."""
    counts, agreement = analysis["counts"], analysis["agreement"]
    lines = [
        f"votes {counts['votes']}  annotators {counts['annotators']}  items {counts['items']}  "
        f"classes {len(analysis['classes'])}"
        + (f"  consensus {analysis['consensus']['method']}" if analysis["consensus"] else ""),
        "agreement  " + "  ".join(
            f"{key} {agreement[key]:.4f}"
            for key in ("alpha_nominal", "alpha_soft", "percent")
            if agreement[key] is not None
        ),
    ]  # fmt: skip
    if analysis["item"] is not None and analysis["item"]["issue"] is not None:
        lines.append(f"label issues {sum(analysis['item']['issue'])}")
    metric = "quality" if analysis["consensus"] else "agreement_consensus"
    people = [person for person in analysis["annotator"] if person[metric] is not None]
    people.sort(key=lambda person: person[metric]["value"])
    for person in people[:3]:
        figure = person[metric]
        interval = ""
        if figure["low"] is not None:
            interval = f" ({figure['low']:.3f} to {figure['high']:.3f})"
        lines.append(
            f"lowest  {person['name']}  {metric} {figure['value']:.3f}{interval}  "
            f"votes {person['votes']}"
        )
    lines += [
        f"alert  {alert['kind']}  {alert['annotator']}: {alert['message']}"
        for alert in analysis["alerts"]
    ]
    return lines
