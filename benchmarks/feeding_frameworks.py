"""Other libraries' ways to feed the same samples, for ``benchmarks/feeding_peers.py``; each the quickest that is usual.

Every function here gets the specification of the samples and gives the batches of an epoch by its number; `PREPARE`
holds those that write the samples in a format of their own first. A full shuffle unless the name says otherwise.
TensorFlow's tensors are read through NumPy views of their memory, nothing copied. What goes through PyTorch's
DataLoader is in ``benchmarks/feeding_torch.py``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from benchmarks.feeding_peers import Batch, Epochs, Specification

FILES = 8
"""Files that a format of many samples per file is cut into."""


def parts(given: Specification) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The samples in `FILES` pieces: number, images, labels."""
    images, labels = given.map(), given.labels()
    edges = np.linspace(0, given.count, FILES + 1).astype(int)
    for number, (low, high) in enumerate(pairwise(edges)):
        yield number, images[low:high], labels[low:high]


def once(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder unless it is there; half a one never gets the name."""
    if folder.exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    partial.rename(folder)


# --- TensorFlow


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow

    return tensorflow


def _of_tensorflow(dataset: Any) -> Epochs:
    """A tf.data.Dataset whose shuffle draws anew in every epoch."""
    return lambda number: iter(dataset.as_numpy_iterator())


def tf_slices(given: Specification) -> Epochs:
    """``from_tensor_slices(arrays).shuffle(all).batch(256)``; the arrays are copied into the graph when it is made."""
    tf = _tensorflow()
    dataset = tf.data.Dataset.from_tensor_slices((given.map(), given.labels()))
    return _of_tensorflow(dataset.shuffle(given.count).batch(given.batch).prefetch(tf.data.AUTOTUNE))


def tf_gather(given: Specification) -> Epochs:
    """Places are shuffled and batched, then gathered from arrays in memory: as Keras' `fit` reads arrays."""
    tf = _tensorflow()
    images, labels = tf.constant(given.map()), tf.constant(given.labels())
    dataset = tf.data.Dataset.range(given.count).shuffle(given.count).batch(given.batch)
    dataset = dataset.map(lambda rows: (tf.gather(images, rows), tf.gather(labels, rows)), tf.data.AUTOTUNE)
    return _of_tensorflow(dataset.prefetch(tf.data.AUTOTUNE))


def tf_fixed(given: Specification, buffer: int | None = None) -> Epochs:
    """``FixedLengthRecordDataset`` over the raw shards of our own dataset, in pure C++; decoded a batch at a time."""
    tf = _tensorflow()
    dataset = None
    for file, rows in given.shards:
        path = given.folder / file
        # What a shard has behind its samples: the rest of its last inner chunk, and the index.
        footer = path.stat().st_size - rows * given.sample_bytes
        one = tf.data.FixedLengthRecordDataset(str(path), given.sample_bytes, footer_bytes=footer, buffer_size=2**20)
        dataset = one if dataset is None else dataset.concatenate(one)
    shape = (-1, *given.shape)

    def decode(records: Any, labels: Any) -> Any:
        return tf.reshape(tf.io.decode_raw(records, tf.uint8), shape), labels

    dataset = tf.data.Dataset.zip(dataset, tf.data.Dataset.from_tensor_slices(given.labels()))
    dataset = dataset.shuffle(buffer or given.count).batch(given.batch)
    return _of_tensorflow(dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))


def write_tfrecord(given: Specification) -> None:
    """One ``tf.train.Example`` per record."""
    tf = _tensorflow()

    def write(folder: Path) -> None:
        for number, images, labels in parts(given):
            with tf.io.TFRecordWriter(str(folder / f"{number}.tfrecord")) as writer:
                for image, label in zip(images, labels.tolist(), strict=True):
                    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()]))
                    code = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
                    features = tf.train.Features(feature={"image": value, "label": code})
                    writer.write(tf.train.Example(features=features).SerializeToString())

    once(given.folder / "tfrecord", write)


def tf_record(given: Specification, buffer: int | None = None) -> Epochs:
    """TFRecord: shuffled as records, then a batch is parsed at once, which is quicker than one after the other."""
    tf = _tensorflow()
    files = sorted(str(path) for path in (given.folder / "tfrecord").iterdir())
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    shape = (-1, *given.shape)

    def parse(records: Any) -> Any:
        found = tf.io.parse_example(records, features)
        return tf.reshape(tf.io.decode_raw(found["image"], tf.uint8), shape), found["label"]

    dataset = tf.data.TFRecordDataset(files, num_parallel_reads=tf.data.AUTOTUNE)
    dataset = dataset.shuffle(buffer or given.count).batch(given.batch)
    return _of_tensorflow(dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))


# --- Grain


class _InMemory:
    """Random access to arrays."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: Any) -> tuple[np.ndarray, np.ndarray]:
        return self.images[place], self.labels[place]


def _grain(given: Specification, source: Any, parse: Callable[[Any], Any] | None, threads: int | None) -> Epochs:
    import grain

    options: dict[str, Any] = {}
    if threads is not None:
        options["read_options"] = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=0)

    def epochs(number: int) -> Iterator[Batch]:
        dataset = grain.MapDataset.source(source).shuffle(seed=number)
        if parse is not None:
            dataset = dataset.map(parse)
        return iter(dataset.batch(given.batch).to_iter_dataset(**options))

    return epochs


def grain_memory(given: Specification) -> Epochs:
    """Grain over arrays in memory, without threads, which only cost there."""
    return _grain(given, _InMemory(np.array(given.map()), given.labels()), None, 0)


def write_array_record(given: Specification) -> None:
    """A record is the label's eight bytes, then the image."""
    from array_record.python.array_record_module import ArrayRecordWriter

    def write(folder: Path) -> None:
        for number, images, labels in parts(given):
            writer = ArrayRecordWriter(str(folder / f"{number}.array_record"), "group_size:1")
            for image, label in zip(images, labels, strict=True):
                writer.write(label.tobytes() + image.tobytes())
            writer.close()

    once(given.folder / "array_record", write)


def grain_array_record(given: Specification) -> Epochs:
    """Grain over ArrayRecord with its default threads."""
    import grain

    files = sorted(str(path) for path in (given.folder / "array_record").iterdir())

    def parse(record: bytes) -> tuple[np.ndarray, np.ndarray]:
        return np.frombuffer(record, np.uint8, offset=8).reshape(given.shape), np.frombuffer(record, np.int64, 1)[0]

    return _grain(given, grain.sources.ArrayRecordDataSource(files), parse, None)


# --- Ray Data


def _ray() -> Any:
    import ray

    if not ray.is_initialized():
        folder = tempfile.mkdtemp(prefix="ray-", dir=os.environ.get("RAY_TMPDIR"))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


def write_parquet(given: Specification) -> None:
    """Parquet with a tensor per row, written by Ray."""
    ray = _ray()

    images, labels = given.map(), given.labels()

    def rows(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"image": np.take(images, batch["id"], axis=0), "label": labels[batch["id"]]}

    def write(folder: Path) -> None:
        places = ray.data.range(given.count, override_num_blocks=FILES)
        places.map_batches(rows, batch_size=1024).write_parquet(str(folder))

    once(given.folder / "parquet", write)


def ray_data(given: Specification, local: bool = False) -> Epochs:
    """Ray Data: ``random_shuffle`` of everything, or its local shuffle with a buffer for everything."""
    ray = _ray()
    dataset = ray.data.read_parquet(str(given.folder / "parquet"))

    def epochs(number: int) -> Iterator[Batch]:
        options = {"local_shuffle_buffer_size": given.count, "local_shuffle_seed": number} if local else {}
        found = dataset if local else dataset.random_shuffle(seed=number)
        for batch in found.iter_batches(batch_size=given.batch, batch_format="numpy", **options):
            yield batch["image"], batch["label"]

    return epochs


OPEN: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (tf_slices, tf_gather, tf_fixed, tf_record, grain_memory, grain_array_record, ray_data)
}
PREPARE: dict[str, Callable[..., None]] = {
    "tf_record": write_tfrecord,
    "grain_array_record": write_array_record,
    "ray_data": write_parquet,
}
PACKAGES = {
    **dict.fromkeys(("tf_slices", "tf_gather", "tf_fixed", "tf_record"), "tensorflow-cpu"),
    **dict.fromkeys(("grain_memory", "grain_array_record"), "grain"),
    "ray_data": "ray",
}
