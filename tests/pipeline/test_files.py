from __future__ import annotations

import sys

import pytest

from pipeline.files import load_file, pipelines_in

TWO = """
import numpy as np
from pipeline import Pipeline
from tasks import sources
source = sources.Arrays(images=np.zeros((4, 8, 8), np.uint8), labels=[0, 1, 0, 1])
first = Pipeline(name="first", source=source)
second = Pipeline(name="second", source=source)
again = first
if __name__ == "__main__":
    raise RuntimeError("this part is for scripts")
"""


@pytest.fixture
def write(tmp_path):
    before = set(sys.modules)

    def write_file(text, name="some_pipeline.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    yield write_file
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def test_pipelines_in__order_of_definition(write):
    module = load_file(write(TWO))
    assert [pipeline.name for pipeline in pipelines_in(module)] == ["first", "second"]
    assert [pipeline.name for pipeline in pipelines_in(module, "second")] == ["second"]
    with pytest.raises(ValueError, match=r"expected a pipeline of \['first', 'second'\], received 'third'"):
        pipelines_in(module, "third")


def test_pipelines_in__none(write):
    with pytest.raises(ValueError, match="to define a Pipeline at module level, found none"):
        pipelines_in(load_file(write("x = 1", "without.py")))


def test_pipelines_in__two_of_one_name(write):
    module = load_file(write(TWO.replace("second", "first"), "doubled.py"))
    module.other = type(module.first)(name="first", source=module.source)
    with pytest.raises(ValueError, match="pipelines of different names"):
        pipelines_in(module)


@pytest.mark.parametrize("name", ["no-module.py", "pipeline.txt"])
def test_load_file__name_that_workers_cannot_import(write, name):
    with pytest.raises(ValueError, match="expected a file named like"):
        load_file(write(TWO, name))


def test_load_file__missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        load_file(tmp_path / "nowhere.py")


def test_load_file__name_of_a_loaded_module(write):
    with pytest.raises(ValueError, match=r"is loaded already; rename json\.py"):
        load_file(write(TWO, "json.py"))


def test_load_file__error_in_the_file_leaves_no_module(write):
    with pytest.raises(ZeroDivisionError):
        load_file(write("1 / 0", "broken_file.py"))
    assert "broken_file" not in sys.modules
