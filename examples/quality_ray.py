"""Annotation quality of more votes than one machine wants: Ray maps over shards, and merges states.

    pip install ray softloss
    python examples/quality_ray.py --classes no,maybe,yes --report report.html votes-*.parquet

All votes on an item must be in one shard. Every shard is read and summed up by a task of its own; what
travels are states of exact sums, and any order of merging gives the same bits.
"""

from __future__ import annotations

import argparse
import pathlib

import ray
from softloss.quality import State, merge_states, summarize


@ray.remote
def summarize_shard(path: str, classes: list[str]) -> bytes:
    return summarize(path, classes=classes, shard=pathlib.Path(path).name).data


@ray.remote
def merge_some(*states: bytes) -> bytes:
    return merge_states([State(data) for data in states]).data


def reduce_states(states: list[ray.ObjectRef], fan_in: int = 16) -> State:
    """Merge as a tree, so that no task holds more than `fan_in` states."""
    while len(states) > 1:
        groups = [states[i : i + fan_in] for i in range(0, len(states), fan_in)]
        states = [merge_some.remote(*group) for group in groups]
    return State(ray.get(states[0]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--classes", required=True)
    parser.add_argument("--report")
    parser.add_argument("--out", default="merged.slqs")
    args = parser.parse_args()
    classes = args.classes.split(",")
    ray.init(log_to_driver=False, include_dashboard=False)
    try:
        state = reduce_states([summarize_shard.remote(path, classes) for path in args.shards])
    finally:
        ray.shutdown()
    state.save(args.out)
    summary = state.read()
    if args.report:
        summary.report(args.report)
    agreement = summary.analysis["agreement"]
    print(f"votes {summary.analysis['counts']['votes']} alpha {agreement['alpha_nominal']:.6f}")


if __name__ == "__main__":
    main()
