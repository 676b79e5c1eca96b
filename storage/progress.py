"""How far a build is, read from what lies on disk; nothing is touched."""

from __future__ import annotations

import json

from storage.documents import BUILDS, PLAN
from storage.errors import StorageError
from storage.plan import Plan
from storage.stores import Store, store_of
from storage.writer import Build


def progress_of(dataset: str, key: str) -> tuple[int, int] | None:
    """How far a build is, without touching it.

    Parameters
    ----------
    dataset : str
        The dataset's location.
    key : str
        Name of the build, from `storage.plan.build_key`.

    Returns
    -------
    (done, all) : tuple of int, or None
        Committed and planned shards; None if the build was never begun.

    Raises
    ------
    StorageError
        If its plan is damaged or of another version of duskflow.
    """
    plan = read_plan(store_of(dataset), f"{BUILDS}/{key}")
    if plan is None:
        return None
    shards = plan.layout.shards
    return shards - len(Build(dataset, plan).missing()), shards


def read_plan(store: Store, build: str) -> Plan | None:
    """Read the plan of a build; None if it was never begun."""
    try:
        return Plan.from_json(json.loads(store.read(f"{build}/{PLAN}")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"damaged plan {store.location}/{build}/{PLAN}: {error}; delete {build} there and run again"
        ) from error
