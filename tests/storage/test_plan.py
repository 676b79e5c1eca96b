from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest

from storage.layout import Layout
from storage.plan import FORMAT, Plan, build_key, canonical, digest

IMAGES = Plan(
    name="clean",
    kind="images",
    layout=Layout(7, 3, 1),
    recipe={"seed": 0},
    sample_shape=(2, 2, 1),
    classes=("a", "b"),
    splits={"train": (0, 5), "test": (5, 7)},
)
FILES = dataclasses.replace(IMAGES, name="photos", slot_bytes=1000)
TEXTS = Plan(name="noisy", kind="texts", layout=Layout(2, 1, 1), recipe={}, slot_bytes=10)


def test_canonical__one_text_for_one_value():
    assert canonical({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'
    assert canonical({"b": 1, "a": 2}) == canonical({"a": 2, "b": 1})
    assert canonical((1, 2)) == canonical([1, 2])


def test_canonical__refuses_what_json_cannot_hold():
    with pytest.raises(ValueError):
        canonical(float("nan"))
    with pytest.raises(TypeError):
        canonical({1, 2})


def test_digest__is_sha256_of_the_canonical_text():
    assert digest({"é": 1}) == hashlib.sha256('{"é":1}'.encode()).hexdigest()


def test_digest__lone_surrogates_count():
    # Names of files that are no UTF-8 come as lone surrogates; such a class name must not stop an ingest.
    assert len({digest("\udce9"), digest("\\udce9"), digest("\udcea"), digest("e")}) == 4


def test_digest__is_the_same_in_another_process():
    code = (
        f"import json, storage.plan as p; print(p.Plan.from_json(json.loads({canonical(IMAGES.to_json())!r})).digest)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == IMAGES.digest


@pytest.mark.parametrize("plan", [IMAGES, FILES, TEXTS], ids=["images", "files", "texts"])
def test_plan__survives_json(plan):
    document = json.loads(json.dumps(plan.to_json()))
    assert Plan.from_json(document) == plan
    assert Plan.from_json(document).digest == plan.digest


CHANGES = {
    "name": "other",
    "layout": Layout(7, 3, 3),
    "recipe": {"seed": 1},
    "sample_shape": (2, 3, 1),
    "classes": ("b", "a"),
    "splits": {"train": (0, 4), "test": (4, 7)},
    "slot_bytes": 1000,
}


@pytest.mark.parametrize("name", CHANGES)
def test_plan__digest_changes_with_every_field(name):
    changed = dataclasses.replace(IMAGES, **{name: CHANGES[name]})
    assert changed.digest != IMAGES.digest
    assert (changed.key != IMAGES.key) == (name in ("name", "recipe"))


def test_plan__key_is_known_before_the_source_is_read():
    assert IMAGES.key == build_key("clean", {"seed": 0})
    assert len(IMAGES.key) == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "sounds"}, "expected a dataset kind of"),
        ({"sample_shape": None}, "expected sample_shape for images"),
        ({"kind": "texts"}, "expected sample_shape for images and none for texts"),
        ({"kind": "texts", "sample_shape": None}, "expected slot_bytes for texts, received None"),
        ({"splits": {"holdout": (0, 7)}}, r"expected splits of .*, received \['holdout'\]"),
    ],
)
def test_plan__refuses(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(IMAGES, **change)


def test_from_json__of_another_format():
    with pytest.raises(ValueError, match=f"expected a plan of format {FORMAT}, received 99; rebuild"):
        Plan.from_json({**IMAGES.to_json(), "format": 99})


def test_plan__images_are_ragged_if_their_files_are_kept():
    assert [plan.ragged for plan in (IMAGES, FILES, TEXTS)] == [False, True, True]
