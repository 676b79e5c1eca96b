"""Ways to feed the same samples that go through PyTorch's DataLoader; see ``benchmarks/feeding_frameworks.py``.

Tensors are read through NumPy views of their memory, nothing copied.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.feeding_frameworks import FILES, once, parts

if TYPE_CHECKING:
    from benchmarks.feeding_peers import Batch, Epochs, Specification


class _Samples:
    """A map-style dataset over a memory map, one sample at a time, as most people write it."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        import torch

        return torch.from_numpy(np.array(self.images[place])), int(self.labels[place])


class _Rows(_Samples):
    """The same with ``__getitems__``: a whole batch at once."""

    def __getitems__(self, places: list[int]) -> tuple[Any, Any]:
        import torch

        rows = np.array(places)
        return torch.from_numpy(np.take(self.images, rows, axis=0)), torch.from_numpy(self.labels[rows])


def _same(found: Any) -> Any:
    return found


def _loader(dataset: Any, given: Specification, workers: int, **options: Any) -> Epochs:
    import torch
    from torch.utils.data import DataLoader

    options = {"batch_size": given.batch, "num_workers": workers, "persistent_workers": workers > 0, **options}
    loader = DataLoader(dataset, **options)

    def epochs(number: int) -> Iterator[Batch]:
        torch.manual_seed(number)
        for values, labels in loader:
            yield values.numpy(), labels.numpy()

    return epochs


def torch_samples(given: Specification, workers: int = 0) -> Epochs:
    """DataLoader over a memory map, a call per sample."""
    return _loader(_Samples(given.map(), given.labels()), given, workers, shuffle=True)


def torch_rows(given: Specification, workers: int = 0) -> Epochs:
    """DataLoader over a memory map, a call per batch."""
    return _loader(_Rows(given.map(), given.labels()), given, workers, shuffle=True, collate_fn=_same)


class _Patches:
    """xbatcher's batches as a map-style dataset of (images, labels); its own loader wants two generators."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def __len__(self) -> int:
        return len(self.generator)

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        import torch

        found = self.generator[place]
        images, labels = found["images"].values, found["labels"].values
        return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(np.ascontiguousarray(labels))


def _joined(found: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    import torch

    return torch.cat([images for images, _ in found]), torch.cat([labels for _, labels in found])


def xbatcher_torch(given: Specification, load: bool = False, neighbours: bool = False) -> Epochs:
    """xbatcher and DataLoader over our Zarr group, opened by xarray; `load` holds it in memory first.

    xbatcher cuts patches and does not shuffle, so a full shuffle needs patches of one sample, which DataLoader
    shuffles and joins; `neighbours` takes a batch of neighbours as a patch, in random order: no full shuffle.
    """
    import xarray
    import xbatcher

    opened = xarray.open_zarr(str(given.group), chunks=None, consolidated=True)[["images", "labels"]]
    if load:
        opened = opened.load()
    # All dimensions: what is not named becomes one called "sample", which there is.
    sizes = dict(opened.sizes) | {"sample": min(given.batch, given.count) if neighbours else 1}
    rest = given.count % given.batch if neighbours else 0
    whole = opened.isel(sample=slice(0, given.count - rest))
    generator = xbatcher.BatchGenerator(whole, input_dims=sizes)
    batch = 1 if neighbours else given.batch
    epochs = _loader(_Patches(generator), given, 0, shuffle=True, batch_size=batch, collate_fn=_joined)
    if not rest:
        return epochs

    def with_rest(number: int) -> Iterator[Batch]:
        # xbatcher leaves out what does not fill a patch; every sample has to come once.
        yield from epochs(number)
        last = opened.isel(sample=slice(given.count - rest, None))
        yield last["images"].values, last["labels"].values

    return with_rest


def write_webdataset(given: Specification) -> None:
    """Raw arrays in tar files."""
    import webdataset

    def write(folder: Path) -> None:
        row = 0
        for number, images, labels in parts(given):
            with webdataset.TarWriter(str(folder / f"{number}.tar")) as writer:
                for image, label in zip(images, labels.tolist(), strict=True):
                    writer.write({"__key__": f"{row:09d}", "image.bin": image.tobytes(), "label.bin": b"%d" % label})
                    row += 1

    once(given.folder / "webdataset", write)


def webdataset_torch(given: Specification, workers: int = 0) -> Epochs:
    """webdataset with its shuffle over all samples; each worker shuffles the files it has."""
    import torch
    import webdataset

    files = sorted(str(path) for path in (given.folder / "webdataset").iterdir())

    def parse(sample: dict[str, Any]) -> tuple[np.ndarray, int]:
        return np.frombuffer(sample["image.bin"], np.uint8).reshape(given.shape), int(sample["label.bin"])

    def epochs(number: int) -> Iterator[Batch]:
        dataset = webdataset.WebDataset(files, shardshuffle=FILES, seed=number, empty_check=False)
        dataset = dataset.shuffle(given.count, initial=given.count).map(parse).batched(given.batch)
        loader = webdataset.WebLoader(dataset, batch_size=None, num_workers=workers)
        for values, labels in loader:
            yield _numpy(values, torch), _numpy(labels, torch)

    return epochs


def _numpy(found: Any, torch: Any) -> np.ndarray:
    return found.numpy() if isinstance(found, torch.Tensor) else np.asarray(found)


# --- mosaicml-streaming


def _streaming() -> Any:
    # It imports torchvision for data sets of pictures that are not used here, and that has no build for every PyTorch.
    for name, members in {
        "torchvision": {},
        "torchvision.datasets": {"VisionDataset": object},
        "torchvision.transforms": {},
        "torchvision.transforms.functional": {"to_tensor": None},
    }.items():
        module = types.ModuleType(name)
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        vars(module).update(members)
        sys.modules.setdefault(name, module)
    import streaming

    return streaming


def write_mds(given: Specification) -> None:
    """MDS files, a row per sample."""
    streaming = _streaming()
    shape = ",".join(map(str, given.shape))

    def write(folder: Path) -> None:
        columns = {"image": f"ndarray:uint8:{shape}", "label": "int"}
        with streaming.MDSWriter(out=str(folder / "mds"), columns=columns) as writer:
            for _, images, labels in parts(given):
                for image, label in zip(images, labels.tolist(), strict=True):
                    writer.write({"image": np.array(image), "label": label})

    once(given.folder / "mds", write)


def mds_torch(given: Specification, workers: int = 0) -> Epochs:
    """mosaicml-streaming from a local folder; ``shuffle_algo="naive"`` is its only full shuffle."""
    import torch
    from torch.utils.data import DataLoader

    streaming = _streaming()
    streaming.base.util.clean_stale_shared_memory()
    dataset = streaming.StreamingDataset(
        local=str(given.folder / "mds" / "mds"), shuffle=True, shuffle_algo="naive", batch_size=given.batch
    )

    def joined(found: list[dict[str, Any]]) -> tuple[Any, Any]:
        images = torch.from_numpy(np.stack([sample["image"] for sample in found]))
        return images, torch.tensor([sample["label"] for sample in found])

    persistent = workers > 0
    loader = DataLoader(
        dataset, batch_size=given.batch, num_workers=workers, persistent_workers=persistent, collate_fn=joined
    )

    def epochs(number: int) -> Iterator[Batch]:
        for values, labels in loader:
            yield values.numpy(), labels.numpy()

    return epochs


OPEN: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (torch_samples, torch_rows, xbatcher_torch, webdataset_torch, mds_torch)
}
PREPARE: dict[str, Callable[..., None]] = {"webdataset_torch": write_webdataset, "mds_torch": write_mds}
PACKAGES = {
    **dict.fromkeys(("torch_samples", "torch_rows"), "torch"),
    "xbatcher_torch": "xbatcher",
    "webdataset_torch": "webdataset",
    "mds_torch": "mosaicml-streaming",
}
