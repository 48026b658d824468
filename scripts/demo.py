"""Shows softloss at work: a server, a training job, per-pixel soft labels, metrics.

1. Starts softlossd on a Unix socket.
2. Runs demo_training.py, a job in a process of its own, against it.
3. Scores segmentations of lung nodules against the outlines of four radiologists.
4. Shows what operations sees of all that in /metrics; stops the server; draws a picture.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import numpy as np
import softloss
from scipy.ndimage import gaussian_filter

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def say(heading: str) -> None:
    print(f"\n\033[1m{heading}\033[0m" if sys.stdout.isatty() else f"\n== {heading}", flush=True)


@contextmanager
def running(binary: pathlib.Path, folder: str) -> Iterator[tuple[str, str]]:
    """Run the server; yields its address and the URL of its metrics."""
    command = [
        str(binary),
        f"--listen=unix:{folder}/softloss.sock",
        "--metrics_listen=127.0.0.1:0",
        "--log_level=warning",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = metrics = ""
        assert process.stdout is not None
        for line in process.stdout:
            print(f"  {line.rstrip()}")
            key, _, value = line.strip().partition(" ")
            address = value if key == "listening" else address
            metrics = value if key == "metrics" else metrics
            if key == "ready":
                break
        else:
            sys.exit(f"{binary} did not start")
        yield address, metrics
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def reader_masks() -> tuple[np.ndarray, str]:
    """[images, readers, height, width] of 0 and 1, and where they come from."""
    data = pathlib.Path(os.environ.get("SOFTLOSS_DATA", REPOSITORY.parent / "shared" / "data"))
    path = data / "lidc-readers" / "masks.npz"
    if path.exists():
        packed = np.load(path)["masks"]
        masks = np.unpackbits(packed, axis=-1).reshape(*packed.shape[:2], 64, 64)
        return masks, "LIDC-IDRI: lung nodules, four radiologists"
    # Four "readers" of photographs, who disagree about where a threshold lies.
    from skimage import data as images
    from skimage.filters import threshold_otsu

    readers = []
    for picture in (images.coins(), images.camera(), images.page()):
        height, width = (n // 64 * 64 for n in picture.shape)
        cut = picture[:height, :width].reshape(height // 64, 64, width // 64, 64)
        tiles = cut.transpose(0, 2, 1, 3).reshape(-1, 64, 64)
        middle = threshold_otsu(picture)
        readers.append(np.stack([tiles > middle + shift for shift in (-15, -5, 5, 15)], 1))
    return np.concatenate(readers).astype(np.uint8), "scikit-image: photographs, four thresholds"


def score_pixels(address: str) -> dict:
    """Score a model's masks against the mean of the readers: a soft label a pixel."""
    masks, source = reader_masks()
    labels = masks.mean(1, dtype=np.float32).astype(np.float16)  # 0, ¼, ½, ¾, 1: exact
    # The "model" to be judged learned from one reader alone, and is a little unsure of edges.
    blurred = gaussian_filter(masks[:, 0].astype(np.float32), (0, 1.5, 1.5))
    logits = ((blurred - 0.5) * 12).astype(np.float32)

    with softloss.Client(address) as client:
        begin = time.perf_counter()
        futures = [
            client.submit(logits[i : i + 64], labels[i : i + 64], row_loss=True, gradient="float16")
            for i in range(0, len(logits), 64)
        ]
        results = [future.result() for future in futures]
        seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        futures = [
            client.submit(logits[i : i + 64], labels[i : i + 64], gradient=None)
            for i in range(0, len(logits), 64)
        ]
        scores = [future.result() for future in futures]
        score_seconds = time.perf_counter() - begin

    valid = sum(r.valid_count for r in results)
    loss = sum(r.loss_sum for r in results) / valid
    assert [r.loss for r in scores] == [r.loss for r in results]
    x, t = logits.astype(np.float64), labels.astype(np.float64)
    truth = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
    inner = np.where((t > 0) & (t < 1), t, 0.5)
    entropy = -(inner * np.log(inner) + (1 - inner) * np.log1p(-inner)) * ((t > 0) & (t < 1))
    by_image = np.concatenate([r.row_loss for r in results]).mean((1, 2), dtype=np.float64)
    soft = ((t > 0) & (t < 1)).mean()
    print(f"  {source}")
    print(
        f"  {len(logits):,} images, {valid:,} pixels, {soft:.1%} of them with readers who disagree"
    )
    print(f"  cross entropy a pixel  {loss:.12f}   (NumPy in float64: {truth.mean():.12f})")
    print(f"  of it, what no model can avoid, the readers' own entropy: {entropy.mean():.6f}")
    print(f"  with gradients and pixel losses: {valid / seconds / 1e6:6.1f} million pixels/s")
    print(f"  the loss alone:                  {valid / score_seconds / 1e6:6.1f} million pixels/s")
    gap = abs(loss - truth.mean())
    if gap > 1e-6 * truth.mean():
        sys.exit(f"the loss is {gap:.1e} from NumPy's")
    excess = by_image - entropy.mean((1, 2))
    # One to look at: large, with pixels of every degree of agreement.
    levels = np.stack([(t == level).sum((1, 2)) for level in (0.25, 0.5, 0.75, 1)])
    worst = int(np.argmax(np.where((levels > 40).all(0), excess, -1)))
    print(f"  an image far from its readers: number {worst}, {by_image[worst]:.3f} a pixel")
    pixel_loss = results[worst // 64].row_loss[worst % 64]
    return {
        "source": source,
        "label": labels[worst].astype(np.float32),
        "prediction": 1 / (1 + np.exp(-logits[worst])),
        "loss": pixel_loss,
    }


def show_metrics(url: str) -> None:
    """Print the lines that say what happened."""
    wanted = (
        "softloss_items_total",
        "softloss_rows_total",
        "softloss_received_bytes_total",
        "softloss_sent_bytes_total",
        "softloss_loss_nats_sum",
        "softloss_loss_nats_count",
        "softloss_item_latency_seconds_sum",
        "softloss_item_latency_seconds_count",
        "softloss_nonfinite_values_total",
        "softloss_unnormalized_labels_total",
        "softloss_shed_total",
        "softloss_ready",
    )
    with urllib.request.urlopen(url, timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    print(f"  {len([line for line in lines if not line.startswith('#')])} samples, among them:")
    for line in lines:
        name, _, value = line.rpartition(" ")
        if name.startswith(wanted) and float(value) != 0:
            print(f"    {line}")


def draw(path: pathlib.Path, training: dict, pixels: dict) -> None:
    """Draw the loss curve, and the image that the model is furthest from."""
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure = plt.figure(figsize=(11, 7.6), dpi=130, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.15, 1])
    blue, orange, grey = "#2563a8", "#e07b22", "#8a8f98"

    curve, apart = top.subplots(1, 2, width_ratios=[2.1, 1])
    remote, local = (np.array(training[k]["steps"]) for k in ("remote", "local"))
    steps = np.arange(1, len(remote) + 1)
    per_epoch = len(steps) // len(training["remote"]["epochs"])
    curve.plot(steps, remote, color=blue, lw=1.1, label="loss from softloss, over gRPC")
    some = slice(per_epoch // 2, None, per_epoch)
    curve.plot(steps[some], local[some], "o", ms=5.5, mfc="none", mec=orange, mew=1.4,
               label="the same job, loss from torch")  # fmt: skip
    curve.set(xlabel="step", ylabel="cross entropy, nats", yscale="log", xlim=(0, len(steps)))
    ticks = [0.3, 0.4, 0.5, 0.7, 1, 1.5, 2]
    curve.set(ylim=(0.3, 2.6), yticks=ticks, yticklabels=[str(tick) for tick in ticks])
    curve.minorticks_off()
    curve.set_title("A student learns soft labels of handwritten digits", loc="left", weight="bold")
    curve.grid(axis="y", color="#e4e6ea", lw=0.8)
    curve.set_axisbelow(True)
    accuracy = curve.twinx()
    accuracy.spines["right"].set_visible(False)
    epochs = np.arange(1, len(training["remote"]["epochs"]) + 1) * per_epoch
    values = [100 * e["accuracy"] for e in training["remote"]["epochs"]]
    accuracy.plot(epochs, values, color=grey, lw=1.4, ls="--", label="test accuracy (right)")
    accuracy.set(ylim=(0, 103), ylabel="%")
    accuracy.tick_params(colors=grey)
    accuracy.yaxis.label.set_color(grey)
    handles = curve.get_legend_handles_labels(), accuracy.get_legend_handles_labels()
    curve.legend(handles[0][0] + handles[1][0], handles[0][1] + handles[1][1],
                 frameon=False, loc="center right", bbox_to_anchor=(1, 0.66))  # fmt: skip

    difference = np.maximum(np.abs(remote - local), 1e-17)
    apart.plot(steps, difference, ".", ms=2, color=blue)
    apart.axhline(1e-6, color=orange, lw=1.2, ls="--")
    apart.text(len(steps), 1.25e-6, "1e-6", color=orange, ha="right", va="bottom")
    apart.set(yscale="log", xlabel="step", xlim=(0, len(steps)), ylim=(1e-11, 1e-5))
    apart.set_title("|difference| of the two losses", loc="left", weight="bold")
    apart.minorticks_off()
    apart.grid(axis="y", color="#e4e6ea", lw=0.8)

    bottom.suptitle(f"Soft labels, pixel by pixel   ({pixels['source']})", x=0.012, ha="left",
                    weight="bold", size=11)  # fmt: skip
    panels = [
        ("soft label: mean of four readers", pixels["label"], "viridis", 1.0),
        ("the model's probability", pixels["prediction"], "viridis", 1.0),
        ("loss of each pixel, nats", pixels["loss"], "magma", None),
    ]
    for axes, (title, image, colors, limit) in zip(bottom.subplots(1, 3), panels, strict=True):
        shown = axes.imshow(image, cmap=colors, vmin=0, vmax=limit, interpolation="nearest")
        axes.set_title(title, size=10)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        bottom.colorbar(shown, ax=axes, shrink=0.85, pad=0.02).outline.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", type=pathlib.Path, required=True, help="the softlossd to run")
    parser.add_argument("--out", type=pathlib.Path, default=REPOSITORY / "build" / "demo")
    args = parser.parse_args()
    begin = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    report = args.out / "training.json"
    with tempfile.TemporaryDirectory(prefix="softloss-demo-") as folder:
        say("A server starts")
        with running(args.server, folder) as (address, metrics):
            say("A training job, in a process of its own, takes its loss and gradient from it")
            job = [sys.executable, str(pathlib.Path(__file__).with_name("demo_training.py"))]
            subprocess.run([*job, address, str(report)], check=True)
            say("Segmentations are scored against what four readers drew")
            pixels = score_pixels(address)
            say("What operations sees: /metrics")
            show_metrics(metrics)
        say("The server has stopped")
    plot = args.out / "demo.png"
    draw(plot, json.loads(report.read_text()), pixels)
    print(f"  the picture: {plot}")
    print(f"  {time.perf_counter() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
