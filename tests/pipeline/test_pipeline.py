from __future__ import annotations

import pytest
from sklearn.cluster import KMeans

from pipeline import Pipeline, Split
from tasks import noise


def test_pipeline__keeps_what_was_given(source):
    made = Pipeline(name="a", source=source, noise=[noise.Gaussian(severity=1)], methods=[KMeans(3)], seed=4)
    assert (made.name, made.seed, made.noise, made.networks) == ("a", 4, (noise.Gaussian(severity=1),), ())
    assert made.split == Split()


@pytest.mark.parametrize("name", ["", "../up", "a b", ".hidden", "x" * 65, None])
def test_pipeline__bad_name(source, name):
    with pytest.raises(ValueError, match="expected a pipeline name"):
        Pipeline(name=name, source=source)


@pytest.mark.parametrize("seed", [-1, 0.5, "1", True])
def test_pipeline__bad_seed(source, seed):
    with pytest.raises(ValueError, match="expected a whole seed"):
        Pipeline(name="a", source=source, seed=seed)


@pytest.mark.parametrize(
    ("part", "value", "error"),
    [
        ("source", "path", "expected a source with"),
        ("noise", [noise.WordDrop(severity=1)], "expected noises for images"),
        ("noise", noise.Gaussian(severity=1), "expected noise as a list"),
        ("noise", ["gaussian"], r"expected a noise such as"),
        ("noise", [noise.Gaussian], r"expected a noise such as"),
        ("noise", [noise.Gaussian(severity=1), noise.Gaussian(severity=1)], "names of their own"),
        ("methods", ["KNN"], r"expected a method such as"),
        ("methods", [KMeans], r"expected a method such as"),
        ("split", 0.2, r"expected split=Split\(validation=0.05, test=0.15\), received 0.2"),
        ("networks", [KMeans(2)], r"expected a network such as"),
    ],
)
def test_pipeline__part_that_does_not_fit(source, part, value, error):
    with pytest.raises((ValueError, TypeError), match=error) as caught:
        Pipeline(**{"name": "a", "source": source, part: value})
    assert "\n" not in str(caught.value)


def test_labels__repeated_methods_get_numbers(source):
    made = Pipeline(name="a", source=source, methods=[KMeans(2), KMeans(2), KMeans(3)])
    assert list(made.labels) == ["KMeans(n_clusters=2)", "KMeans(n_clusters=2) #2", "KMeans(n_clusters=3)"]


@pytest.mark.parametrize("shares", [{"validation": 1.0}, {"test": -0.1}, {"test": "half"}])
def test_split__bad_share(shares):
    with pytest.raises(ValueError, match="share of at least 0 and below 1"):
        Split(**shares)
