"""Masks of readers: what can be read, COCO's run lengths, and the figures of overlap."""

from __future__ import annotations

import base64
import json
import pathlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from softloss.quality import InputError, analyze_masks, decode_brush, decode_rle, read_masks

mask_module = pytest.importorskip("pycocotools.mask")

MASKS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)),
                      elements=st.integers(0, 1))  # fmt: skip


def run_lengths(mask: np.ndarray) -> list[int]:
    flat = mask.T.reshape(-1)
    cuts = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *cuts, len(flat)]).tolist()
    return [0, *lengths] if flat[0] else lengths


@given(MASKS)
def test_run_lengths_of_both_kinds(mask: np.ndarray) -> None:
    encoded = mask_module.encode(np.asfortranarray(mask))
    np.testing.assert_array_equal(decode_rle(encoded["counts"], *mask.shape), mask)
    np.testing.assert_array_equal(decode_rle(encoded["counts"].decode(), *mask.shape), mask)
    np.testing.assert_array_equal(decode_rle(run_lengths(mask), *mask.shape), mask)


def test_long_run_lengths(rng: np.random.Generator) -> None:
    mask = (rng.random((700, 900)) < 0.001).astype(np.uint8)
    counts = mask_module.encode(np.asfortranarray(mask))["counts"]
    np.testing.assert_array_equal(decode_rle(counts, 700, 900), mask)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2], "sum to 3"),
        ([5, -1], "at least 0"),
        (b"\x10", "have the character"),
        (b"o", "cut off"),
        ("4é", "have the character"),
    ],
)
def test_bad_run_lengths(counts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_rle(counts, 2, 2)


def coco(path: pathlib.Path, rows: list[dict[str, Any]], **extra: Any) -> pathlib.Path:
    path.write_text(json.dumps({"annotations": rows, **extra}))
    return path


def annotation(image: int, mask: np.ndarray, **extra: Any) -> dict[str, Any]:
    segmentation = {"size": list(mask.shape), "counts": run_lengths(mask)}
    return {"image_id": image, "category_id": 1, "segmentation": segmentation, **extra}


def test_coco_with_annotators(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    masks = rng.integers(0, 2, (2, 2, 5, 7)).astype(np.uint8)
    rows = [annotation(i, masks[i, r], annotator=f"r{r}") for i in range(2) for r in range(2)]
    rows[3] = annotation(1, masks[1, 1], attributes={"annotator_id": "r1"})
    table = read_masks(coco(tmp_path / "m.json", rows, images=[{"id": 0, "file_name": "a.png"}]))
    assert table.images == ["1", "a.png"] and table.readers == ["r0", "r1"]
    np.testing.assert_array_equal(table.masks[0], masks[1])
    np.testing.assert_array_equal(table.masks[1], masks[0])


def test_coco_one_file_a_reader_joins_objects(tmp_path: pathlib.Path) -> None:
    left = np.array([[1, 0, 0]], np.uint8)
    right = np.array([[0, 0, 1]], np.uint8)
    a = coco(tmp_path / "ann.json", [annotation(1, left), annotation(1, right)])
    b = coco(tmp_path / "bob.json", [annotation(1, left)])
    table = read_masks([a, b])
    assert table.readers == ["ann", "bob"]
    assert table.masks[0].tolist() == [[[1, 0, 1]], [[1, 0, 0]]]


def test_coco_categories_are_told_apart(tmp_path: pathlib.Path) -> None:
    mask = np.ones((2, 2), np.uint8)
    rows = [annotation(1, mask, annotator="a"), annotation(1, mask, annotator="a", category_id=2)]
    kinds = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert read_masks(coco(tmp_path / "m.json", rows, categories=kinds)).images == [
        "1 / cat",
        "1 / dog",
    ]


def test_coco_rows_that_cannot_be_used(tmp_path: pathlib.Path) -> None:
    mask = np.ones((2, 2), np.uint8)
    rows = [
        annotation(1, mask, annotator="a"),
        annotation(1, mask),
        {"image_id": 1, "segmentation": [[0, 0, 1, 1, 0, 1]], "annotator": "b"},
        {"image_id": 1, "segmentation": {"counts": [4], "size": [0, 4]}, "annotator": "b"},
        annotation(1, np.ones((3, 2), np.uint8), annotator="b"),
        {"image_id": 1, "segmentation": {"counts": [3], "size": [2, 2]}, "annotator": "b"},
    ]
    path = coco(tmp_path / "m.json", rows)
    with pytest.raises(InputError) as error:
        read_masks(path)
    reasons = {row.line: row.reason.split(": ", 1)[1] for row in error.value.bad_rows}
    assert reasons == {
        2: "there is no annotator (nor one file a reader)",
        3: "segmentation: polygons have no exact pixels; convert them to run lengths",
        4: "segmentation: size must be 1 to 65536; was 0 x 4",
        5: "the image's other masks have another size",
        6: "run lengths must be at least 0 and sum to 2 x 2; sum to 3",
    }
    assert len(read_masks(path, skip_bad_rows=True).bad_rows) == 5


def test_packed_masks_are_those_unpacked(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    masks = rng.integers(0, 2, (3, 2, 5, 7)).astype(np.uint8)
    packed = np.packbits(masks.reshape(3, 2, -1), axis=-1)
    np.savez(tmp_path / "p.npz", masks=packed, shape=[5, 7], readers=["x", "y"])
    table = read_masks(tmp_path / "p.npz")
    assert table.readers == ["x", "y"]
    np.testing.assert_array_equal(np.stack(table.masks), masks)
    np.savez(tmp_path / "square.npz", masks=np.packbits(masks[..., :5, :4].reshape(3, 2, -1), -1))
    with pytest.raises(InputError, match="24 bits are no square"):
        read_masks(tmp_path / "square.npz")
    np.savez(tmp_path / "wrong.npz", masks=packed, shape=[9, 9])
    with pytest.raises(InputError, match="shape 9 x 9 does not fit 40 bits"):
        read_masks(tmp_path / "wrong.npz")


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((2, 3, 4)), "has 3 dimensions"),
        (np.zeros((2, 3, 4, 4)), "must be bool or uint8; are float64"),
        (np.zeros((0, 3, 4, 4), bool), "there are no pixels"),
        (np.zeros((2, 1, 4, 4), bool), "no image was drawn by two readers"),
    ],
)
def test_arrays_that_are_no_masks(masks: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        analyze_masks(masks)


@settings(deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(2, 4), st.just(2),
                                         st.integers(1, 5)), elements=st.integers(0, 1)))  # fmt: skip
def test_figures_are_those_of_sets(masks: np.ndarray) -> None:
    found = analyze_masks(masks).pixels
    images, readers = masks.shape[:2]
    for i in range(images):
        dices, ious = [], []
        for a in range(readers):
            for b in range(a):
                x, y = masks[i, a].astype(bool), masks[i, b].astype(bool)
                empty = not (x | y).any()
                dices.append(1.0 if empty else 2 * (x & y).sum() / (x.sum() + y.sum()))
                ious.append(1.0 if empty else (x & y).sum() / (x | y).sum())
        assert found["image"]["dice"][i] == pytest.approx(np.mean(dices), abs=1e-12)
        assert found["image"]["iou"][i] == pytest.approx(np.mean(ious), abs=1e-12)
        union = masks[i].any(0)
        contested = union & ~masks[i].all(0)
        expected = contested.sum() / union.sum() if union.any() else None
        assert found["image"]["contested"][i] == expected
    # Alpha by its definition: all pairs within a pixel against all pairs of values.
    values = np.moveaxis(masks, 1, -1).reshape(-1, readers).astype(float)
    within = np.mean([(p[:, None] - p[None]) ** 2 for p in values]) * readers / (readers - 1)
    flat = values.reshape(-1)
    between = ((flat[:, None] - flat[None]) ** 2).sum() / (len(flat) * (len(flat) - 1))
    if between == 0:
        assert found["alpha_soft"] is None
    else:
        assert found["alpha_soft"] == pytest.approx(1 - within / between, abs=1e-12)


def test_soft_masks_agree_with_themselves(rng: np.random.Generator) -> None:
    soft = rng.integers(0, 256, (3, 1, 6, 6)).astype(np.uint8)
    found = analyze_masks(np.repeat(soft, 3, 1)).pixels
    assert found["image"]["dice"] == [1.0] * 3 and found["alpha_soft"] == 1.0
    assert [row["iou"]["value"] for row in found["reader"]] == [1.0] * 3


def test_soft_masks_of_zeros_and_full_are_hard_ones(rng: np.random.Generator) -> None:
    hard = rng.integers(0, 2, (4, 3, 7, 9)).astype(np.uint8)
    soft, expected = analyze_masks(hard * 255).pixels, analyze_masks(hard).pixels
    assert soft["alpha_soft"] == pytest.approx(expected["alpha_soft"], abs=1e-12)
    assert soft["image"].pop("alpha") == pytest.approx(expected["image"].pop("alpha"), abs=1e-12)
    for key in ("reader", "pair", "image"):
        assert soft[key] == expected[key], key


def test_readers_against_the_mean_of_the_others(rng: np.random.Generator) -> None:
    soft = rng.integers(0, 256, (1, 3, 5, 5)).astype(np.uint8)
    found = analyze_masks(soft).pixels
    values = soft[0].reshape(3, -1) / 255
    for r in range(3):
        others = (values.sum(0) - values[r]) / 2
        common = np.minimum(values[r], others).sum()
        both = values[r].sum() + others.sum()
        assert found["reader"][r]["dice"]["value"] == pytest.approx(2 * common / both, abs=1e-12)
        assert found["reader"][r]["iou"]["value"] == pytest.approx(
            common / (both - common), abs=1e-12
        )


def test_maps_are_of_the_most_contested(rng: np.random.Generator) -> None:
    masks = np.zeros((3, 2, 300, 10), np.uint8)
    masks[:, :, :100] = 1
    masks[1, 0, 100:200] = 1
    found = analyze_masks(masks, maps=1).pixels
    (shown,) = found["map"]
    assert (shown["image"], shown["step"], shown["height"], shown["width"]) == ("1", 3, 100, 4)
    assert shown["contested"] == 0.5


def test_lidc(shared_data: pathlib.Path) -> None:
    path = shared_data / "lidc-readers" / "masks.npz"
    found = analyze_masks(path).pixels
    assert (found["images"], len(found["readers"]), found["pixels"]) == (6457, 4, 6457 * 4096)
    # The soft alpha of all 26.4 million pixels, as published with the data.
    assert found["alpha_soft"] == pytest.approx(0.814734, abs=1e-6)


# The mask below, as Label Studio's own converter encodes it: in all four channels, and in the last
# beside another colour.
BRUSH_MASK = np.array([[0, 0, 1, 1, 1], [0, 1, 1, 1, 0], [1, 0, 0, 0, 0]], np.uint8)
BRUSH = [
    [0, 0, 0, 60, 57, 27, 252, 224, 22, 255, 227, 0, 183, 255, 24, 4, 127, 247, 192, 0],
    [0, 0, 0, 60, 57, 27, 248, 0, 241, 0, 0, 15, 16, 0, 0, 240, 128, 1, 254, 0, 60, 32, 0, 127, 128,
     15, 8, 0, 31, 224, 3, 196, 0, 0, 60, 32, 0, 127, 128, 15, 8, 0, 31, 224, 3, 194, 0, 7, 248, 0,
     241, 0, 0, 15, 8, 0, 31, 224, 3, 196, 0, 0, 60, 64, 0, 3, 196, 0, 0, 60, 64, 0],
]  # fmt: skip


@pytest.mark.parametrize("data", BRUSH)
def test_brush_run_lengths(data: list[int]) -> None:
    np.testing.assert_array_equal(decode_brush(data, 3, 5), BRUSH_MASK)
    for length in range(1, len(data) - 2):
        with pytest.raises(ValueError, match="cut off"):
            decode_brush(data[:length], 3, 5)
    with pytest.raises(ValueError, match="must be 2 x 5 pixels of 4 channels; are 60 values"):
        decode_brush(data, 2, 5)
    with pytest.raises(ValueError, match="a list of bytes"):
        decode_brush([*data, 256], 3, 5)


def test_brush_words_one_by_one(rng: np.random.Generator) -> None:
    mask = rng.integers(0, 2, (6, 7)).astype(np.uint8)
    words = np.repeat(mask.reshape(-1, 1) * 9, 4, 1).reshape(-1)
    bits = f"{len(words):032b}{8 - 1:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    bits += "0" + "10" + f"{len(words) - 1:08b}" + "".join(f"{word:08b}" for word in words)
    bits += "0" * (-len(bits) % 8)
    data = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    np.testing.assert_array_equal(decode_brush(data, 6, 7), mask)


def test_label_studio_brushes(tmp_path: pathlib.Path) -> None:
    def annotation(who: int, data: list[int]) -> dict[str, Any]:
        value = {"format": "rle", "rle": data, "brushlabels": ["cell"]}
        size = {"original_height": 3, "original_width": 5}
        return {"completed_by": who, "result": [{"type": "brushlabels", "value": value, **size}]}

    tasks = [{"id": 4, "annotations": [annotation(1, BRUSH[0]), annotation(2, BRUSH[1])]}]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    table = read_masks(path)
    assert table.images == ["4 / cell"] and table.readers == ["1", "2"]
    np.testing.assert_array_equal(table.masks[0], [BRUSH_MASK, BRUSH_MASK])
    tasks[0]["annotations"].append(annotation(3, [0, 1]))
    path.write_text(json.dumps(tasks))
    with pytest.raises(InputError, match="task 4: brush: run lengths are cut off"):
        read_masks(path)


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return dict(load_file(path))


def test_consensus_masks_are_soft_labels(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    import softloss

    masks = (rng.random((2, 3, 6, 8)) < 0.5).astype(np.uint8)
    found = analyze_masks(masks)
    found.write_consensus(tmp_path / "m.safetensors")
    tensors = read_safetensors(tmp_path / "m.safetensors")
    assert set(tensors) == {"mean/0", "mean/1", "em/0", "em/1"}
    for i in range(2):
        np.testing.assert_allclose(tensors[f"mean/{i}"], masks[i].mean(0), atol=1e-7)
        # EM leaves what all say, and is a probability.
        em = tensors[f"em/{i}"]
        assert ((em >= 0) & (em <= 1)).all() and (em[masks[i].max(0) == 0] == 0).all()
    # Scoring takes them as they are.
    logits = rng.normal(size=(6, 8)).astype(np.float32)
    loss = (
        softloss.Engine()
        .score(logits, tensors["mean/0"], loss="sigmoid_cross_entropy", reduction="mean")
        .loss
    )
    s, x = masks[0].mean(0), logits.astype(float)
    expected = (np.logaddexp(0, x) - s * x).mean()
    assert loss == pytest.approx(expected, rel=1e-6)
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        found.write_consensus(tmp_path / "m.npz")
    soft = analyze_masks(masks * 100)
    soft.write_consensus(tmp_path / "s.safetensors")
    assert set(read_safetensors(tmp_path / "s.safetensors")) == {"mean/0", "mean/1"}


def test_a_model_against_readers(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    truth = np.zeros((3, 16, 16), np.uint8)
    truth[:, 4:12, 4:12] = 1
    masks = np.repeat(truth[:, None], 3, 1)
    wrong = np.zeros_like(truth)
    wrong[1, 5:7, 5:7] = 1  # all readers left these out
    masks ^= wrong[:, None]
    masks[:, 0, 0, :3] = 1  # one reader's own
    model = np.where(truth, 0.95, 0.05) + rng.uniform(-0.03, 0.03, truth.shape)
    found = analyze_masks(masks, model).pixels
    assert found["image"]["model_issues"] == [0, 4, 0]
    assert found["model"]["issues"] == 4
    score = found["image"]["model_score"]
    assert score[1] < 0.2 < 0.8 < min(score[0], score[2])
    mean = masks.mean(1)
    for i in range(3):
        common = np.minimum(mean[i], model[i]).sum()
        both = mean[i].sum() + model[i].sum()
        assert found["image"]["model_dice"][i] == pytest.approx(2 * common / both, rel=1e-6)
        assert found["image"]["model_iou"][i] == pytest.approx(common / (both - common), rel=1e-6)
    shown = {row["image"]: row for row in found["map"]}
    pixels = np.frombuffer(base64.b64decode(shown["1"]["issues"]), np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(pixels, wrong[1] * 255)
    # By name, in another order, from a file; and in 255ths.
    path = tmp_path / "p.npz"
    np.savez(path, predictions=model[::-1], images=["2", "1", "0"])
    assert analyze_masks(masks, path).pixels == found
    named = analyze_masks(masks, {"2": model[2], "0": model[0], "1": model[1]}).pixels
    assert named == found
    bytes_ = analyze_masks(masks, np.round(model * 255).astype(np.uint8)).pixels
    assert bytes_["image"]["model_issues"] == [0, 4, 0]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (np.zeros((2, 4)), r"predictions: must be \[images, H, W\]; has 2 dimensions"),
        (np.zeros((1, 4, 4)), "must have 2 images, as the masks; has 1"),
        (np.zeros((2, 4, 5)), r"image '0': must be \(4, 4\), as its masks; is \(4, 5\)"),
        (np.full((2, 4, 4), 1.5), "image '0': must be from 0 to 1; has 1.5"),
        (np.full((2, 4, 4), np.nan), "image '0': must be from 0 to 1; has nan"),
        (np.zeros((2, 4, 4), np.int32), "must be of floats, bool or uint8; is int32"),
        ({"0": np.zeros((4, 4))}, "has no image '1'"),
        ("nowhere.npy", "there is no such file"),
    ],
)
def test_models_that_do_not_fit(model: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        analyze_masks(np.eye(4, dtype=bool)[None, None].repeat(2, 0).repeat(2, 1), model)


def test_disagreement_maps_are_in_bits(rng: np.random.Generator) -> None:
    soft = rng.integers(0, 256, (1, 3, 5, 7)).astype(np.uint8)
    (shown,) = analyze_masks(soft).pixels["map"]
    differs = np.frombuffer(base64.b64decode(shown["differs"]), np.uint8).reshape(5, 7)

    def entropy(p: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return -np.nan_to_num(p * np.log2(p)) - np.nan_to_num((1 - p) * np.log2(1 - p))

    p = soft[0] / 255
    np.testing.assert_allclose(differs / 255, entropy(p.mean(0)) - entropy(p).mean(0), atol=2e-3)
