"""What a network is trained on: the GPU that the backend sees, else all cores this process may use."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from importlib import import_module
from typing import Any

from dask.system import CPU_COUNT

from tasks.networks.backend import load_keras

log = logging.getLogger("duskflow.training")


def prepare_device() -> str:
    """Configure the backend, once it can be and as far as it still can be, and say what it computes on.

    Returns
    -------
    str
        ``"CPU"``, or ``"GPU "`` and the name of the first one.
    """
    backend = load_keras().backend.backend()
    configure = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}.get(backend)
    name = configure() if configure else None
    return "CPU" if name is None else f"GPU {name}"


def declares_gpu() -> bool:
    """Whether this code runs in a task of a worker that declares the resource GPU."""
    from distributed import get_worker

    try:
        return bool(get_worker().state.total_resources.get("GPU"))
    except ValueError:  # not on a worker
        return False


def _tensorflow() -> str | None:
    import tensorflow as tf

    # Both are refused once TensorFlow has computed something in this process, where they were set before that.
    with suppress(RuntimeError):
        # The nanny's OMP_NUM_THREADS=1 is meant for NumPy in many threads, not for a network that has the worker.
        if not os.environ.get("TF_NUM_INTRAOP_THREADS"):
            tf.config.threading.set_intra_op_parallelism_threads(CPU_COUNT)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        with suppress(RuntimeError):
            # Otherwise TensorFlow takes all memory of the GPU at once, from whoever else uses it.
            tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus:
        return None
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name))


def _torch() -> str | None:
    torch: Any = import_module("torch")

    if not torch.cuda.is_available():
        torch.set_num_threads(CPU_COUNT)
        return None
    return str(torch.cuda.get_device_name())


def _jax() -> str | None:
    jax: Any = import_module("jax")

    gpus = [device for device in jax.devices() if device.platform in ("gpu", "cuda", "rocm")]
    return str(gpus[0].device_kind) if gpus else None
