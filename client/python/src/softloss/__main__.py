"""The command: ``softloss --version``, ``capabilities``, ``bench``, ``quality``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

import softloss
from softloss.bench import _cli as bench
from softloss.quality import _cli as quality


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="softloss", description="Score soft labels.")
    parser.add_argument("--version", action="version", version=f"softloss {softloss.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    ask = commands.add_parser("capabilities", help="what a server is able to do, as JSON")
    ask.add_argument("address", help="a gRPC target: localhost:7070, unix:/run/softloss.sock")
    ask.set_defaults(run=_capabilities)
    bench.add_command(commands)
    quality.add_command(commands)
    args = parser.parse_args(argv)
    return int(args.run(args))


def _capabilities(args: argparse.Namespace) -> int:
    try:
        with softloss.Client(args.address) as client:
            print(json.dumps(dataclasses.asdict(client.capabilities()), indent=2))
    except softloss.SoftlossError as error:
        print(f"softloss: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
