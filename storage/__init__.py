"""Zarr datasets: committed exactly once, verified, versioned. Imports neither `tasks` nor `pipeline`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.adapters.arrays import to_dask, to_xarray
    from storage.adapters.jax import to_jax
    from storage.adapters.keras import to_keras
    from storage.adapters.tensorflow import to_tensorflow
    from storage.adapters.torch import to_torch
    from storage.dataset import Dataset, open_dataset
    from storage.errors import StorageError
    from storage.feeding.batches import batches
    from storage.feeding.feed import Batches
    from storage.feeding.sequences import Sequences
    from storage.retention import catalog, prune
    from storage.verification import Verification, verify
    from storage.versions import tag, untag

_HOME = {
    "Batches": "storage.feeding.feed",
    "Sequences": "storage.feeding.sequences",
    "batches": "storage.feeding.batches",
    "catalog": "storage.retention",
    "prune": "storage.retention",
    "Dataset": "storage.dataset",
    "open_dataset": "storage.dataset",
    "Verification": "storage.verification",
    "verify": "storage.verification",
    "StorageError": "storage.errors",
    "tag": "storage.versions",
    "to_dask": "storage.adapters.arrays",
    "to_jax": "storage.adapters.jax",
    "to_keras": "storage.adapters.keras",
    "to_tensorflow": "storage.adapters.tensorflow",
    "to_torch": "storage.adapters.torch",
    "to_xarray": "storage.adapters.arrays",
    "untag": "storage.versions",
}
__all__ = [
    "Batches",
    "Dataset",
    "Sequences",
    "StorageError",
    "Verification",
    "batches",
    "catalog",
    "open_dataset",
    "prune",
    "tag",
    "to_dask",
    "to_jax",
    "to_keras",
    "to_tensorflow",
    "to_torch",
    "to_xarray",
    "untag",
    "verify",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `import pipeline` does not need it.
    if name not in _HOME:
        raise AttributeError(f"module 'storage' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
