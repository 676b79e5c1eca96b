"""Repair the datasets of a pipeline: it knows the source and the noises that they were made from."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import config
from pipeline.folders import Folders
from pipeline.lock import RunLock
from pipeline.progress import Progress
from pipeline.robustness import stored_noises
from pipeline.steps import CLEAN, layout_of
from storage.dataset import is_dataset, open_dataset
from tasks.noise.protocol import slug_of

if TYPE_CHECKING:
    from distributed import Client

    from pipeline.pipeline import Pipeline
    from tasks.repairing import Repair


def repair_datasets(pipeline: Pipeline, root: Path, client: Client | None) -> list[Repair]:
    """Repair what is damaged; see `Pipeline.repair`."""
    from pipeline.cluster import connect
    from tasks.building import Work
    from tasks.noising import plan_noise
    from tasks.repairing import remake_source, repair

    settings = config.load()
    folders = Folders.of(pipeline.name, root, settings.storage.datasets)
    if not is_dataset(folders.dataset(CLEAN)):
        raise FileNotFoundError(f"expected datasets in {folders.datasets}, found none; run the pipeline first")
    done: list[Repair] = []
    with ExitStack() as stack:
        stack.enter_context(RunLock(folders.root))
        if client is None:
            client = stack.enter_context(connect())
        progress = stack.enter_context(Progress())

        def mend(name: str, works: Iterable[Work]) -> None:
            bar = progress.step(f"repair {name}")
            found = repair(works, client, label=f"repair {name}")
            rewritten = f"{len(found.shards)} shards, {len(found.files)} other files" if found.problems else "nothing"
            bar.done(f"rewritten: {rewritten}; version {found.version[:12]}")
            done.append(found)

        clean = folders.dataset(CLEAN)
        split, seed, layout = pipeline.split, pipeline.seed, layout_of(settings)
        mend(CLEAN, remake_source(pipeline.source, clean, client, split=split, seed=seed, layout=layout, name=CLEAN))
        for noise in stored_noises(pipeline):
            name = slug_of(noise)
            if is_dataset(folders.dataset(name)):
                mend(name, plan_noise(open_dataset(clean), noise, folders.dataset(name), pipeline.seed))
    return done
