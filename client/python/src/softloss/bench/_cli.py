"""The command ``softloss bench``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .._errors import InvalidArgumentError, SoftlossError
from ._items import ELEMENTWISE, Item
from ._plot import plot
from ._run import ArrivalKind, Progress, Results, run, sweep, to_json

OK, FAILED, WRONG_USE = 0, 1, 2

_EPILOG = """\
A closed loop (the default) keeps --in-flight requests in flight and finds the most that the server
moves. An open loop (--rate, --poisson) sends at a rate whatever comes back, and counts latency from
when a request was due. --sweep does the first, then the second at fractions of what it found.

  softloss bench localhost:50051 --size 2MiB --in-flight 8
  softloss bench unix:/run/softloss.sock --size 8KiB*9,2MiB --poisson 2000
  softloss bench localhost:50051 --size 64KiB --sweep --plot curve.png --json curve.json

Every loss that comes back is compared with what this process computes, and whole gradients now and
then. The exit status is 1 if an answer was wrong or missing.
"""


def add_command(commands: Any) -> None:
    """Add ``bench`` to the subcommands of a parser."""
    parser = commands.add_parser(
        "bench",
        help="load a server, and measure it",
        description="Load a server, check its answers, and measure latency and throughput.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("address", help="a gRPC target: localhost:50051, unix:/run/softloss.sock")
    _add_items(parser.add_argument_group("what is sent"))
    _add_load(parser.add_argument_group("how"))
    output = parser.add_argument_group("what is shown")
    output.add_argument("--json", metavar="FILE", help="write everything as JSON")
    output.add_argument("--plot", metavar="FILE.png", help="draw latency against throughput")
    output.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_run)


def _add_items(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--size", default="512KiB", metavar="BYTES[*WEIGHT],…",
        help="of prediction and label together; several are mixed (%(default)s)")  # fmt: skip
    add("--shape", metavar="N,…", help="of the prediction, instead of --size")
    add("--classes", type=int, default=64, metavar="C",
        help="of items given by --size (default %(default)s)")  # fmt: skip
    add(
        "--class-axis", type=int, default=-1, metavar="AXIS", help="with --shape; default: the last"
    )
    add("--loss", default="softmax_cross_entropy", help="default %(default)s")
    add("--prediction", default="float32", metavar="DTYPE", help="default %(default)s")
    add("--label", default="float32", metavar="DTYPE",
        help="of dense labels; int32 and int64: class ids (default %(default)s)")  # fmt: skip
    add("--gradient", default="float32", metavar="DTYPE", help="or none (default %(default)s)")


def _add_load(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    kind = group.add_mutually_exclusive_group()
    kind.add_argument("--rate", type=float, metavar="R", help="open loop, R requests a second")
    kind.add_argument("--poisson", type=float, metavar="R",
                      help="open loop, R requests a second on average, at random")  # fmt: skip
    kind.add_argument("--sweep", action="store_true",
                      help="a closed loop, then Poisson loads at fractions of it")  # fmt: skip
    add("--in-flight", type=int, default=16, metavar="N", help="closed loop (default %(default)s)")
    add("--most-in-flight", type=int, default=10_000, metavar="N",
        help="where an open loop holds back (default %(default)s)")  # fmt: skip
    for name, default, words in (
        ("--duration", 10.0, "that are measured"),
        ("--warmup", 1.0, "before them"),
        ("--timeout", 30.0, "of one request"),
    ):
        add(name, type=float, default=default, metavar="SECONDS",
            help=f"{words} (default %(default)s)")  # fmt: skip
    add("--channels", type=int, default=0, metavar="N",
        help="connections, with a thread each (default 0: as many as help)")  # fmt: skip
    add("--check-every", type=int, default=16, metavar="N",
        help="compare one gradient of N value by value (default %(default)s)")  # fmt: skip
    add("--shared-memory", action="store_true", help="send tensors by shared memory")
    add("--seed", type=int, default=1, help="default %(default)s")


def items_of(args: argparse.Namespace) -> list[Item]:
    """Return the kinds of items that the arguments name."""
    fields: dict[str, Any] = {
        "loss": args.loss,
        "prediction": args.prediction,
        "label": args.label,
        "gradient": None if args.gradient == "none" else args.gradient,
        "class_axis": None if args.loss in ELEMENTWISE else -1,
    }
    if args.shape is not None:
        try:
            shape = tuple(int(n) for n in args.shape.split(","))
        except ValueError:
            raise InvalidArgumentError(
                f"shape: must be like 4,21,512,512; was {args.shape!r}", field="shape"
            ) from None
        if fields["class_axis"] is not None:
            fields["class_axis"] = args.class_axis
        return [Item(shape=shape, **fields)]
    out = []
    for part in args.size.split(","):
        size, star, weight = part.partition("*")
        try:
            share = float(weight) if star else 1.0
        except ValueError:
            raise InvalidArgumentError(
                f"size: the weight after * must be a number; was {weight!r}", field="size"
            ) from None
        out.append(Item.of_size(size.strip(), args.classes, weight=share, **fields))
    return out


def _run(args: argparse.Namespace) -> int:
    try:
        items = items_of(args)
        options = {
            name: getattr(args, name)
            for name in (
                "in_flight", "most_in_flight", "duration", "warmup", "timeout", "channels",
                "check_every", "shared_memory", "seed",
            )
        }  # fmt: skip
        with _progress(args) as title:
            if args.sweep:
                results = sweep(args.address, items, progress=title, **options)
            else:
                rate = args.poisson if args.poisson is not None else args.rate
                kind: ArrivalKind = "closed"
                if rate is not None:
                    kind = "poisson" if args.poisson is not None else "uniform"
                results = [
                    run(
                        args.address, items, arrivals=kind, rate=rate or 0.0,
                        progress=title("running") if title else None, **options,
                    )
                ]  # fmt: skip
        for result in results:
            print(table(result))
        if args.json:
            Path(args.json).write_text(to_json(results) + "\n", encoding="utf-8")
        if args.plot:
            plot(results, args.plot)
    except SoftlossError as error:
        print(f"softloss bench: {error}", file=sys.stderr)
        return WRONG_USE if isinstance(error, InvalidArgumentError) else FAILED
    except OSError as error:
        print(f"softloss bench: {error.filename}: {error.strerror}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    return OK if all(result.all_right for result in results) else FAILED


@contextlib.contextmanager
def _progress(args: argparse.Namespace) -> Iterator[Any]:
    """A progress bar a run, where somebody looks and tqdm is installed."""
    total = args.warmup + args.duration
    if args.quiet or not sys.stderr.isatty():
        yield None
        return
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError:
        print("softloss bench: no progress bar without tqdm (pip install 'softloss[bench]')",
              file=sys.stderr)  # fmt: skip
        yield None
        return
    bars: list[Any] = []

    def title(name: str) -> Progress:
        for bar in bars:
            bar.close()
        form = "{l_bar}{bar}| {n:.1f}/{total:.1f} s{postfix}"
        bars.append(tqdm(desc=name, total=total, bar_format=form, leave=False))

        def tell(seconds: float, completed: int) -> None:
            bars[-1].set_postfix_str(f"{completed:,} answered", refresh=False)
            bars[-1].update(min(seconds, total) - bars[-1].n)

        return tell

    try:
        yield title
    finally:
        for bar in bars:
            bar.close()


def table(result: Results) -> str:
    """Return a run as text."""
    load, found = result.load, result.found
    what = (
        f"closed loop, {load['in_flight']} in flight"
        if load["arrivals"] == "closed"
        else f"{load['arrivals']} load, {load['rate']:,.1f} requests a second"
    )
    lines = [f"{what}, {found['seconds']:.1f} s, by {found['transport'].replace('_', ' ')}"]
    head = ("item", "items/s", "MB/s up", "p50 ms", "p90", "p99", "p99.9", "max", "failed")
    rows: list[Sequence[str]] = [head]
    for kind in found["items"]:
        latency = kind["latency_ms"]
        failed = kind["wrong"] + sum(kind["failed"].values())
        rows.append(
            (
                kind["name"],
                f"{kind['items_per_second']:,.1f}",
                f"{kind['request_bytes_per_second'] / 1e6:,.1f}",
                *(f"{latency[key]:.3f}" for key in ("p50", "p90", "p99", "p99.9", "max")),
                f"{failed:,}",
            )
        )
    widths = [max(len(row[c]) for row in rows) for c in range(len(head))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(widths[c]) for c, cell in
                                            enumerate(row[1:], 1))]  # fmt: skip
        lines.append("  " + "  ".join(cells))
    stages = ", ".join(
        f"{name.replace('_', ' ')} {ms:.3f}"
        for name, ms in found["server_stages_ms"].items()
        if ms > 0
    )
    lines.append(f"  in the server, ms a request: {stages or 'not told'}")
    late = found["send_lag_ms"]["p99"]
    lines.append(
        f"  this process: {found['client_cores']:.2f} cores, requests sent late by {late:.3f} ms "
        f"at p99; this machine: {found['machine_busy']:.0%} busy"
    )
    if found["unsent"]:
        lines.append(
            f"  {found['unsent']:,} requests were due and never sent: the server is overloaded"
        )
    for kind in found["items"]:
        if kind["wrong"]:
            lines.append(f"  {kind['wrong']:,} WRONG answers to {kind['name']}")
        for code, count in kind["failed"].items():
            lines.append(f"  {count:,} of {kind['name']} failed: {code}")
    if found["first_error"]:
        lines.append(f"  the first of these: {found['first_error']}")
    if found["client_limit"]:
        lines.append(f"  LIMITED BY THIS CLIENT, not the server: {found['client_limit']}")
    return "\n".join(lines)
