"""What starts a worker's process and watches it, with the memory allocator set as the worker's size asks for."""

from __future__ import annotations

from typing import Any

from distributed import Nanny

SMALL_WORKER = 2**30
"""Bytes below which a worker cannot afford to keep what it freed: some 120 MB, a quarter of one of 512 MiB."""

USUAL = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "33554432"}
"""Those of dask-config.yaml; what else is set there or outside wins."""

SMALL = {"MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "131072"}
"""Dask's own, and glibc's: freed memory goes back to the system at once."""


class SizedNanny(Nanny):
    """A nanny whose small workers give freed memory back at once.

    Dask pauses a worker above 80 % of its memory, and restarts it above 95 %, whether or not it still uses that memory.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        limit = self.memory_manager.memory_limit
        wanted = SMALL if limit is not None and limit < SMALL_WORKER else USUAL
        for name, value in wanted.items():
            # A nanny leaves its settings in this process's environment, where the next one finds them.
            if self.pre_spawn_env.get(name) in (USUAL[name], SMALL[name]):
                self.pre_spawn_env[name] = self.env[name] = value
