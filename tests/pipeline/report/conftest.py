"""Two runs as a pipeline leaves them: images (with a failed network and pictures) and reviews."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Content = dict[str, Any]

CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
IMAGE_DATA = ["clean", "gaussian-3", "salt-and-pepper-2"]
TEXT_DATA = ["clean", "character-swap-2", "word-drop-3"]
TRACEBACK = """Traceback (most recent call last):
  File "tasks/training.py", line 88, in train
    model.fit(batches, epochs=epochs)
  File "keras/src/utils/traceback_utils.py", line 122, in error_handler
    raise e.with_traceback(filtered_tb) from None
MemoryError: Unable to allocate 4.59 GiB for an array with shape (6000, 224, 224, 4) and data type float32
"""


def confusion(classes: int, accuracy: float, rows: int, seed: int) -> list[list[int]]:
    """Counts whose diagonal holds about `accuracy`; mistakes fall on few neighbours, as they do in life."""
    rng = np.random.default_rng(seed)
    per_class = rows // classes
    spread = rng.normal(0, 0.4 * min(accuracy, 1 - accuracy), classes)
    table = []
    for true, recall in enumerate(accuracy + spread - spread.mean()):
        weights = rng.random(classes) ** 4
        weights[true] = 0
        right = round(per_class * min(max(recall, 0.0), 1.0))
        row = rng.multinomial(per_class - right, weights / weights.sum())
        row[true] = right
        table.append([int(count) for count in row])
    return table


def score(data: str, value: float | None, measure: str = "accuracy", rows: int = 1000, **more: Any) -> Content:
    return {"data": data, "split": "test", "measure": measure, "value": value, "rows": rows, "confusion": None} | more


def classifier(label: str, values: list[float], data: list[str], classes: int, **more: Any) -> Content:
    rows = more.pop("rows", 1000)
    scores = []
    for place, (name, value) in enumerate(zip(data, values, strict=True)):
        table = confusion(classes, value, rows, seed=place + len(label))
        right = sum(row[index] for index, row in enumerate(table)) / sum(map(sum, table))
        extra = {"f1_macro": round(right - 0.004, 4)}
        scores.append(score(name, right, rows=rows, predict_seconds=0.21 + place / 50, confusion=table, extra=extra))
    name = label.partition("(")[0]
    base = {"label": label, "name": name, "kind": "method", "task": "classification", "trained_on": "clean"}
    base |= {"fit_seconds": 1.24, "fit_rows": 6000, "parameters": None, "device": None, "history": None}
    return base | {"scores": scores, "artifacts": {}, "folder": f"steps/{name}"} | more


def history(epochs: int, start: float, end: float, *, accuracy: bool, seed: int) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    fall = np.exp(-np.arange(epochs) / 2.2)
    loss = end + (start - end) * fall
    curves = {"loss": loss, "val_loss": loss + 0.02 + 0.015 * np.arange(epochs) / epochs + rng.normal(0, 0.008, epochs)}
    if accuracy:
        curves |= {"accuracy": 0.93 - 0.25 * fall, "val_accuracy": 0.89 - 0.2 * fall + rng.normal(0, 0.004, epochs)}
    return {name: [round(float(value), 5) for value in values] for name, values in curves.items()}


def clothes_like(count: int, seed: int) -> np.ndarray:
    """Grey 28 x 28 pictures with soft shapes, uint8 (sample, 28, 28, 1)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:28, 0:28]
    pictures = np.zeros((count, 28, 28, 1), "uint8")
    for index in range(count):
        body = (abs(x - 14) < 4 + 5 * rng.random()) & (y > 3 + 4 * rng.random()) & (y < 22 + 5 * rng.random())
        arms = (abs(y - 8 - abs(x - 14) * rng.random()) < 3) & (abs(x - 14) < 12)
        shade = 110 + 100 * rng.random() + 40 * np.sin(x / (1 + 2 * rng.random()))
        pictures[index, :, :, 0] = np.clip(np.where(body | arms, shade, 0), 0, 255)
    return pictures


def write_examples(path: Path, count: int = 10) -> None:
    rng = np.random.default_rng(5)
    clean = clothes_like(count, seed=1)
    noise = {
        "gaussian-3": clean + rng.normal(0, 46, clean.shape),
        "salt-and-pepper-2": np.where(
            rng.random(clean.shape) < 0.1, rng.integers(0, 2, clean.shape) * 255, clean.astype("float64")
        ),
    }
    arrays = {}
    for name, noisy in noise.items():
        noisy = np.clip(noisy, 0, 255)
        arrays[f"{name}/clean"] = clean
        arrays[f"{name}/noisy"] = noisy.astype("uint8")
        arrays[f"{name}/denoised"] = np.clip(0.82 * clean + 0.18 * noisy, 0, 255).astype("uint8")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def dataset(name: str, splits: dict[str, int], classes: int, size: int, **more: Any) -> Content:
    count = sum(splits.values())
    version = (name.encode().hex() * 8)[:64]
    base = {"name": name, "path": f"data/{name}", "version": version, "count": count, "shards": 5, "bytes": size}
    counts = [splits["train"] // classes] * classes
    return base | {"splits": splits, "class_counts": counts, "reused": False, "seconds": 1.7} | more


def step(name: str, kind: str, started: float, seconds: float, status: str = "done", **more: Any) -> Content:
    moment = f"2026-11-23T20:15:{started:09.6f}+00:00"
    base = {"name": name, "kind": kind, "status": status, "seconds": seconds, "started": moment, "fingerprint": "ab12"}
    return base | {"folder": None, "error": None, "traceback": None} | more


def robustness_content() -> Content:
    """Two noises, three methods of which one misses a value, and a denoiser; small enough to check by hand."""
    content: Content = json.loads(Path(__file__).with_name("robustness.json").read_text(encoding="utf-8"))
    return content


def image_content() -> Content:
    lenet = classifier("lenet5()", [0.887, 0.792, 0.741], IMAGE_DATA, 10, kind="network", parameters=61706)
    lenet |= {"device": "CPU", "fit_seconds": 24.1, "history": history(12, 1.1, 0.28, accuracy=True, seed=2)}
    pca = {
        "scores": [
            score(name, value, "explained variance", extra={"components": 32, "mse": mse})
            for name, value, mse in zip(IMAGE_DATA, (0.842, 0.601, 0.566), (412.0, 902.5, 1104.1), strict=True)
        ]
    }
    clusters = [
        classifier(label, [0.4] * 3, IMAGE_DATA, 10, task="clustering")
        | {
            "scores": [
                score(
                    name,
                    ari,
                    "ARI",
                    predict_seconds=0.08,
                    extra={
                        "ARI": ari,
                        "NMI": ari + 0.13,
                        "silhouette": ari / 2.4,
                        "clusters": count,
                        "noise_points": noise,
                    },
                )
                for name, ari in zip(IMAGE_DATA, values, strict=True)
            ]
        }
        for label, values, count, noise in (
            ("KMeans(n_clusters=10)", (0.362, 0.341, 0.298), 10, 0),
            ("DBSCAN(eps='auto', min_samples=5)", (0.112, 0.017, 0.0), 14, 388),
        )
    ]
    autoencoder = classifier(
        "denoising_autoencoder()", [0.5] * 3, IMAGE_DATA, 10, kind="network", task="reconstruction"
    )
    autoencoder |= {
        "parameters": 28353,
        "device": "CPU",
        "fit_seconds": 31.8,
        "trained_on": "gaussian-3",
        "history": history(10, 0.31, 0.27, accuracy=False, seed=3),
        "artifacts": {"examples": "examples.npz"},
        "folder": "steps/denoising_autoencoder",
        "scores": [
            score(
                "gaussian-3",
                6.31,
                "PSNR gain (dB)",
                predict_seconds=1.9,
                extra={"psnr_noisy": 14.9, "psnr_denoised": 21.21},
            ),
            score(
                "salt-and-pepper-2",
                2.74,
                "PSNR gain (dB)",
                predict_seconds=1.9,
                extra={"psnr_noisy": 13.2, "psnr_denoised": 15.94},
            ),
        ],
    }
    results = [
        classifier("KNeighborsClassifier(n_neighbors=5)", [0.853, 0.794, 0.701], IMAGE_DATA, 10, fit_seconds=0.06),
        classifier("LinearSVC(C=0.1)", [0.826, 0.642, 0.587], IMAGE_DATA, 10),
        classifier("PCA(n_components=32)", [0.1] * 3, IMAGE_DATA, 10, task="decomposition") | pca,
        *clusters,
        lenet,
        autoencoder,
    ]
    splits = {"train": 5700, "validation": 300, "test": 1000}
    steps = [
        step("clean", "dataset", 1, 2.1),
        step("gaussian-3", "dataset", 3.2, 1.8),
        step("salt-and-pepper-2", "dataset", 3.3, 1.6),
        step("KNeighborsClassifier(n_neighbors=5)", "method", 5.1, 2.4),
        step("LinearSVC(C=0.1)", "method", 5.1, 6.2),
        step("PCA(n_components=32)", "method", 7.6, 1.4),
        step("KMeans(n_clusters=10)", "method", 9.1, 1.9),
        step("DBSCAN(eps='auto', min_samples=5)", "method", 11.1, 8.3),
        step("lenet5()", "network", 5.2, 26.4),
        step("denoising_autoencoder()", "network", 31.7, 24.2),
        step(
            "vgg16()",
            "network",
            20.0,
            3.1,
            "failed",
            traceback=TRACEBACK,
            error="MemoryError: Unable to allocate 4.59 GiB for an array with shape (6000, 224, 224, 4)",
        ),
        step("captioner()", "network", 23.1, 0.0, "skipped", error="needs vgg16(), which failed"),
    ]
    return {
        "pipeline": "fashion",
        "run": "20261123T201500Z-ab12",
        "root": ".",
        "started": "2026-11-23T20:15:00Z",
        "finished": "2026-11-23T20:16:01Z",
        "seconds": 61.0,
        "seed": 0,
        "exit_code": 1,
        "kind": "images",
        "classes": CLOTHES,
        "versions": {"duskflow": "0.1.0", "python": "3.11.2", "dask": "2026.8.0", "zarr": "3.1.6", "keras": "3.15.1"},
        "config": {
            "duskflow": {"shard-bytes": 33554432, "workers": {"cpu": 2, "gpu": 1}, "noise": [1, 3], "progress": True}
        },
        "cluster": {
            "address": "tcp://127.0.0.1:41233",
            "workers": 3,
            "threads": 4,
            "gpu_workers": 1,
            "memory_bytes": 8250000000,
        },
        "source": {"class": "Idx", "found": "/usr/share/fashion/train-images-idx3-ubyte.gz", "licence": "MIT"},
        "datasets": [dataset(name, splits, 10, 5_488_000, reused=name == "clean") for name in IMAGE_DATA],
        "steps": steps,
        "results": results,
        "robustness": robustness_content(),
    }


def text_content() -> Content:
    lstm = classifier("lstm_sentiment()", [0.846, 0.772, 0.829], TEXT_DATA, 2, kind="network", parameters=661377)
    lstm |= {"device": "GPU NVIDIA A100", "fit_seconds": 88.0, "history": history(5, 0.69, 0.24, accuracy=True, seed=4)}
    results = [
        classifier("LinearSVC(C=1.0)", [0.851, 0.781, 0.834], TEXT_DATA, 2, fit_rows=4000),
        classifier("KNeighborsClassifier(n_neighbors=15)", [0.702, 0.66, 0.694], TEXT_DATA, 2, fit_rows=4000),
        lstm | {"fit_rows": 4000},
    ]
    splits = {"train": 3800, "validation": 200, "test": 1000}
    steps = [step(name, "dataset", 1, 0.9) for name in TEXT_DATA]
    steps += [step(result["label"], result["kind"], 2 + place, 9.0) for place, result in enumerate(results)]
    return image_content() | {
        "pipeline": "reviews",
        "run": "20261123T201602Z-77fe",
        "seconds": 117.0,
        "exit_code": 0,
        "kind": "texts",
        "classes": ["negative", "positive"],
        "source": {"class": "Table", "found": "movie_reviews.csv", "licence": None},
        "datasets": [dataset(name, splits, 2, 6_300_000) for name in TEXT_DATA],
        "steps": steps,
        "results": results,
        "robustness": None,
        "finished": "2026-11-23T20:18:00Z",
    }


def write_run(folder: Path, content: Content) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def images() -> Content:
    return image_content()


@pytest.fixture
def robustness() -> Content:
    return robustness_content()


@pytest.fixture
def texts() -> Content:
    return text_content()


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write content as a run folder with its examples; returns the folder."""

    def write(content: Content, name: str = "run", *, examples: bool = True) -> Path:
        root = tmp_path / name
        if examples:
            write_examples(root / "steps" / "denoising_autoencoder" / "examples.npz")
        return write_run(root / "runs" / "one", content | {"root": str(root)})

    return write
