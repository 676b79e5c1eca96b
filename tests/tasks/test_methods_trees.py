"""Trees and forests: parity with scikit-learn's exact trees, and independence of chunks and threads."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from sklearn import ensemble, tree
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.utils.estimator_checks import estimator_checks_generator

from tasks.methods.trees import estimators

DIGITS = load_digits(return_X_y=True)
DATA = {"digits": DIGITS, "wine": load_wine(return_X_y=True), "cancer": load_breast_cancer(return_X_y=True)}
SINGLE = {"DecisionTreeClassifier": ["gini", "entropy"], "DecisionTreeRegressor": ["squared_error"]}
CASES = [(name, criterion) for name, criteria in SINGLE.items() for criterion in criteria]
EVERY = [
    estimators.DecisionTreeClassifier(),
    estimators.DecisionTreeRegressor(),
    estimators.RandomForestClassifier(5, bootstrap=False),
    estimators.RandomForestRegressor(5, bootstrap=False),
    estimators.RandomForestClassifier(5),
    estimators.RandomForestRegressor(5),
]


def checks():
    for method in EVERY:
        for estimator, check in estimator_checks_generator(method):
            # It asks for other array libraries, and skips without them.
            skipped = check.func.__name__ == "check_array_api_input"
            # A bootstrap is drawn by row number: a row that stands twice is drawn twice, one of weight 2 once.
            skipped |= getattr(method, "bootstrap", False) and "sample_weight_equivalence" in check.func.__name__
            if not skipped:
                yield pytest.param(estimator, check, id=f"{estimator}-{check.func.__name__}")


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("depth", [1, 3, 5])
@pytest.mark.parametrize(("name", "criterion"), CASES)
def test_fit__gains_as_the_exact_tree(name, criterion, depth):
    """Up to this depth no two cuts are equally good: the same tree."""
    X, y = DIGITS
    ours = getattr(estimators, name)(criterion=criterion, max_depth=depth).fit(X, y)
    theirs = getattr(tree, name)(criterion=criterion, max_depth=depth, random_state=0).fit(X, y)
    weight = ours.tree_.weighted_n_node_samples / len(X)
    leaves = ours.tree_.feature < 0
    reference = theirs.tree_
    expected = np.sum((reference.impurity * reference.weighted_n_node_samples)[reference.feature < 0]) / len(X)
    np.testing.assert_allclose(np.sum((weight * ours.tree_.impurity)[leaves]), expected, rtol=2e-2)
    if depth == 3:
        np.testing.assert_array_equal(ours.tree_.feature, reference.feature)
        np.testing.assert_allclose(ours.tree_.threshold, reference.threshold)
        np.testing.assert_allclose(ours.tree_.impurity, reference.impurity, atol=1e-9)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X))
        np.testing.assert_allclose(ours.feature_importances_, theirs.feature_importances_, atol=1e-9)


@pytest.mark.parametrize("data", DATA)
def test_score__as_scikit_learn(data):
    X, y = DATA[data]
    train = np.arange(len(X)) % 3 > 0
    for name, slack in (("DecisionTreeClassifier", 0.06), ("RandomForestClassifier", 0.03)):
        theirs = getattr(tree if "Tree" in name else ensemble, name)(random_state=0).fit(X[train], y[train])
        ours = getattr(estimators, name)(random_state=0).fit(X[train], y[train])
        assert ours.score(X[~train], y[~train]) >= theirs.score(X[~train], y[~train]) - slack
        assert ours.score(X[train], y[train]) > 0.99


@pytest.mark.parametrize("method", EVERY, ids=str)
@pytest.mark.parametrize("kind", ["few values", "many values"])
def test_fit__does_not_depend_on_chunks(method, kind):
    X, y = DIGITS
    if kind == "many values":
        X = X + np.random.default_rng(0).random(X.shape)
    weights = np.random.default_rng(1).random(len(X))
    fitted = [
        method.set_params(random_state=7).fit(data, y, weights).predict(X)
        for data in (X, da.from_array(X, (1797, 64)), da.from_array(X, (301, 17)), da.from_array(X, (97, 64)))
    ]
    for other in fitted[1:]:
        np.testing.assert_array_equal(fitted[0], other)


def test_fit__does_not_depend_on_threads():
    one, two = (estimators.RandomForestClassifier(8, random_state=0, n_jobs=n).fit(*DIGITS) for n in (1, 2))
    np.testing.assert_array_equal(one.predict_proba(DIGITS[0]), two.predict_proba(DIGITS[0]))


@pytest.mark.parametrize("chunks", [None, (301, 17)])
def test_fit__refuses_bins_that_no_worker_can_hold(monkeypatch, chunks):
    monkeypatch.setattr("tasks.methods.trees.forest.MEMORY_FRACTION", 1e-9)
    X, y = DIGITS
    data = X if chunks is None else da.from_array(X, chunks)
    with pytest.raises(MemoryError, match=r"1,797 rows x 64 columns: 0\.1 MB .* fit on fewer rows"):
        estimators.DecisionTreeClassifier().fit(data, y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"criterion": "squared_error"}, "expected criterion as one of"),
        ({"max_depth": 0}, "expected max_depth as an integer of at least 1"),
        ({"min_samples_leaf": 0.0}, "expected min_samples_leaf"),
        ({"max_features": "all"}, "expected max_features"),
        ({"min_impurity_decrease": -1.0}, "expected min_impurity_decrease"),
    ],
)
def test_fit__refuses(parameters, message):
    with pytest.raises(ValueError, match=message):
        estimators.DecisionTreeClassifier(**parameters).fit(*DIGITS)
