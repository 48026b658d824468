"""Campaigns on a real server, killed again and again."""

from __future__ import annotations

import json
import os
import pathlib
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import softloss
from servers import REPOSITORY, Server
from softloss.quality import AnalysisOptions, Campaigns, VoteTable, analyze, read_votes

CLASSES = ["bunting", "grosbeak", "wren"]


def drawn_votes(seed: int = 4, items: int = 400, annotators: int = 24) -> VoteTable:
    """Soft votes of annotators of all kinds, at times, in a mixed order."""
    rng = np.random.default_rng(seed)
    item, annotator = np.nonzero(rng.random((items, annotators)) < 0.3)
    order = rng.permutation(len(item))
    truth = rng.integers(3, size=items)
    sure = rng.dirichlet([1, 1, 1], len(item))
    sure[np.arange(len(item)), truth[item]] += 1.5
    sure = sure[order]
    return VoteTable(
        items=[f"photo{i:04}" for i in range(items)],
        annotators=[f"ann{r:02}" for r in range(annotators)],
        classes=CLASSES,
        item=item[order],
        annotator=annotator[order].astype(np.int32),
        label=None,
        probabilities=sure / sure.sum(1, keepdims=True),
        weight=rng.uniform(0.5, 2, len(item)),
        time=rng.uniform(0, 1e6, len(item)),
    )


def part(votes: VoteTable, rows: Any) -> VoteTable:
    """Some rows of a table."""
    return VoteTable(
        **{
            **vars(votes),
            "item": votes.item[rows],
            "annotator": votes.annotator[rows],
            "probabilities": votes.probabilities[rows],
            "weight": votes.weight[rows],
            "time": votes.time[rows],
        }
    )


@pytest.fixture
def start(binary: pathlib.Path, run_dir: pathlib.Path) -> Iterator[Any]:
    servers: list[Server] = []

    def run(*flags: str) -> Server:
        servers.append(
            Server(
                binary,
                [f"unix:{run_dir}/s.sock"],
                "--metrics_listen=127.0.0.1:0",
                f"--quality_dir={run_dir}/store",
                *flags,
            )
        )
        return servers[-1]

    yield run
    for server in servers:
        server.stop()


def test_eight_feeders_and_three_kills_end_with_the_bits_of_one_feed(start: Any) -> None:
    votes = drawn_votes()
    server = start()
    with_retries = {"max_attempts": 20}
    Campaigns(server.address).open("torn", CLASSES)
    batches = [range(b, len(votes), 160) for b in range(160)]  # 8 feeders, 20 batches each
    lock, stored = threading.Lock(), [0]
    gate = threading.Condition(lock)

    def feed(feeder: int) -> None:
        campaigns = Campaigns(server.address, **with_retries)
        for batch in batches[feeder::8]:
            report = campaigns.feed("torn", part(votes, list(batch)))
            assert report.errors == ()
            assert report.accepted + report.duplicates == len(batch)
            with gate:
                stored[0] += 1
                gate.notify_all()

    feeders = [threading.Thread(target=feed, args=(f,)) for f in range(8)]
    for feeder in feeders:
        feeder.start()
    address = server.address
    for kill in range(1, 4):
        with gate:
            assert gate.wait_for(lambda goal=kill * 40: stored[0] >= goal, timeout=120)
        server.kill()
        server = start()
        assert server.address == address
    for feeder in feeders:
        feeder.join(timeout=120)
        assert not feeder.is_alive()

    campaigns = Campaigns(address)
    campaigns.open("whole", CLASSES)
    assert campaigns.feed("whole", votes).accepted == len(votes)
    # A vote counted twice, or lost, would be seen in any of these.
    torn, whole = (campaigns.analyze(name, all_items=True) for name in ("torn", "whole"))
    assert torn.analysis["counts"]["votes"] == len(votes)
    assert json.dumps(torn.to_dict()) == json.dumps(whole.to_dict())
    assert (torn.posterior == whole.posterior).all()
    # And the engine, in this process, says the same.
    local = analyze(votes)
    assert (local.posterior == whole.posterior).all()
    ours, theirs = local.to_dict(), whole.to_dict()
    for one in (ours, theirs):
        one.pop("provenance", None)
    assert json.dumps(ours) == json.dumps(theirs)


def test_predictions_gold_and_closing(start: Any) -> None:
    server = start()
    campaigns = Campaigns(server.address)
    votes = drawn_votes(items=60)
    described = campaigns.open("c", CLASSES, close_after_votes=3)
    assert described["classes"] == CLASSES
    report = campaigns.feed("c", votes)
    # An item takes three votes, and then no more.
    assert {reason.split('"')[2] for _, reason in report.errors} == {
        " is closed and takes no more votes"
    }
    counts = np.bincount(votes.item, minlength=60)
    assert report.accepted == np.minimum(counts, 3).sum()
    rng = np.random.default_rng(0)
    model = rng.dirichlet([1, 1, 1], 60)
    assert campaigns.feed_predictions("c", votes.items, model).accepted == 60
    assert campaigns.feed_gold("c", votes.items[:5], [0, 1, 2, 0, 1]).accepted == 5
    closed = campaigns.analyze("c").to_dict()
    assert closed["counts"]["items"] == (counts >= 3).sum()
    assert closed["consensus"]["method"] == "crowdlab"
    majority = AnalysisOptions(method="majority")
    everything = campaigns.analyze("c", all_items=True, options=majority).to_dict()
    assert everything["counts"]["gold"] == 5
    assert everything["item"]["consensus"][:5] == [0, 1, 2, 0, 1]
    assert everything["consensus"]["method"] == "majority"
    assert campaigns.list()[0]["predictions"] == 60
    campaigns.delete("c")
    assert campaigns.list() == []


def peak_mib(server: Server) -> float:
    """The largest resident memory that the server has had."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM")) / 1024


def test_votes_are_on_the_disk_and_not_in_memory(start: Any, run_dir: pathlib.Path) -> None:
    server = start("--quality_memory_bytes=128MiB")
    campaigns = Campaigns(server.address)
    campaigns.open("c", CLASSES)
    rng = np.random.default_rng(5)

    def feed(first: int, items: int) -> None:
        item = np.repeat(np.arange(items), 10)
        votes = VoteTable(
            items=[f"a photo with quite a long name {first + i:07}" for i in range(items)],
            annotators=[f"annotator {r:03}" for r in range(100)],
            classes=CLASSES,
            item=item,
            annotator=np.tile(np.arange(10), items).astype(np.int32) + 10 * (item % 10),
            label=None,
            probabilities=rng.dirichlet([1, 1, 1], len(item)),
            weight=None,
            time=rng.uniform(0, 1e6, len(item)),
        )
        assert campaigns.feed("c", votes).accepted == len(item)

    def stored_mib() -> float:
        return sum(file.stat().st_size for file in (run_dir / "store").rglob("*")) / 2**20

    # First SQLite's cache and the allocator's arenas fill; from then on nothing grows but the file.
    for step in range(8):
        feed(2000 * step, 2000)
    before, stored = peak_mib(server), stored_mib()
    for step in range(8, 16):
        feed(2000 * step, 2000)
    assert stored_mib() - stored > 8
    assert peak_mib(server) - before < 4
    # The estimate that admits an analysis, 86 MiB, holds.
    campaigns.analyze("c", all_items=True, options=AnalysisOptions(bootstrap_replicates=20))
    assert peak_mib(server) - before < 128
    # What would take more is refused before it takes any.
    server.stop()
    small = start("--quality_memory_bytes=8MiB")
    resting = peak_mib(small)
    with pytest.raises(softloss.ResourceExhaustedError, match="MiB to analyse; the limit is 8"):
        Campaigns(small.address).analyze("c", all_items=True)
    assert peak_mib(small) - resting < 8


def test_bad_rows_are_reported_by_their_place(start: Any) -> None:
    campaigns = Campaigns(start().address)
    campaigns.open("c", CLASSES)
    votes = drawn_votes(items=20)
    assert votes.weight is not None
    votes.weight[7] = -1
    report = campaigns.feed("c", votes)
    assert report.errors == ((7, "weight: must be positive and finite; was -1"),)
    assert report.accepted == len(votes) - 1


def test_errors_are_clear(start: Any, server: Server) -> None:
    campaigns = Campaigns(start().address)
    campaigns.open("c", CLASSES)
    with pytest.raises(softloss.FailedPreconditionError, match="other classes or closing rules"):
        campaigns.open("c", ["a", "b"])
    with pytest.raises(softloss.InvalidArgumentError, match="at least 2; were 1"):
        campaigns.open("d", ["a"])
    with pytest.raises(softloss.NotFoundError, match='there is no "x"'):
        campaigns.analyze("x")
    with pytest.raises(softloss.FailedPreconditionError, match="no item to analyse"):
        campaigns.analyze("c")
    with pytest.raises(softloss.InvalidArgumentError, match="there is no 'x'"):
        campaigns.feed("x", drawn_votes(items=5))
    with pytest.raises(softloss.InvalidArgumentError, match="method: must be one of"):
        campaigns.analyze("c", options=AnalysisOptions(method="best"))
    # A server without a folder says so.
    with pytest.raises(softloss.UnimplementedError, match="started without --quality_dir"):
        Campaigns(server.address).open("c", CLASSES)


def test_the_metrics_show_campaigns_and_alerts(start: Any) -> None:
    server = start("--quality_alert_interval_s=0")
    campaigns = Campaigns(server.address)
    campaigns.open("birds", CLASSES)
    votes = drawn_votes(items=200)
    blind = votes.annotator == 3
    assert votes.probabilities is not None
    votes.probabilities[blind] = [1, 0, 0]
    campaigns.feed("birds", votes)
    campaigns.feed("birds", votes)
    campaigns.close_items("birds", votes.items[:50])
    alerts = campaigns.analyze("birds", all_items=True).alerts
    assert ("spammer", "ann03") in {(a["kind"], a["annotator"]) for a in alerts}
    assert server.metrics_url is not None
    text = urllib.request.urlopen(server.metrics_url).read().decode()
    label = '{tenant="unix",campaign="birds",'
    for line in (
        f'softloss_quality_votes_total{{outcome="accepted"}} {len(votes)}',
        f'softloss_quality_votes_total{{outcome="duplicate"}} {len(votes)}',
        f'softloss_quality_items{label}state="closed"}} 50',
        f'softloss_quality_items{label}state="open"}} 150',
        f'softloss_quality_alerts{label}kind="spammer"}} 1',
        f'softloss_quality_alerts{label}kind="class_collapse"}} 1',
    ):
        assert line in text


def test_the_birds_fed_to_a_server_are_the_birds_read_from_the_file(start: Any) -> None:
    data = pathlib.Path(os.environ.get("SOFTLOSS_DATA", REPOSITORY.parent / "shared" / "data"))
    path = data / "bluebirds" / "labels.csv"
    if not path.exists():
        pytest.skip(f"there is no {path}; set SOFTLOSS_DATA")
    votes = read_votes(path)
    campaigns = Campaigns(start().address)
    campaigns.open("birds", votes.classes)
    assert campaigns.feed("birds", votes).accepted == 4212
    remote = campaigns.analyze("birds", all_items=True).to_dict()
    expected = json.loads((path.parent / "expected.json").read_text())
    assert remote["agreement"]["alpha_nominal"] == pytest.approx(
        expected["alpha_nominal_krippendorff"], abs=1e-12
    )
    converged = expected["dawid_skene_converged"]["p1"]
    order = [remote["item"]["name"].index(str(task)) for task in expected["tasks"]]
    decided = np.asarray(remote["item"]["consensus"])[order]
    # Ours is smoothed: of 108 photographs a few may be decided otherwise.
    assert (decided == (np.asarray(converged) > 0.5)).sum() >= 105
