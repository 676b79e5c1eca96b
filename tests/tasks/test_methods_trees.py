"""Trees and forests: parity with scikit-learn's exact trees, and independence of chunks and threads."""

from __future__ import annotations

import dask.array as da
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix
from sklearn import ensemble, tree
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from tasks import methods
from tasks.methods.trees import levels
from tasks.methods.trees.levels import row_bytes

DIGITS = load_digits(return_X_y=True)
DATA = {"digits": DIGITS, "wine": load_wine(return_X_y=True), "cancer": load_breast_cancer(return_X_y=True)}
SINGLE = {"DecisionTreeClassifier": ["gini", "entropy"], "DecisionTreeRegressor": ["squared_error"]}
CASES = [(name, criterion) for name, criteria in SINGLE.items() for criterion in criteria]
ALL = [
    methods.DecisionTreeClassifier(),
    methods.DecisionTreeRegressor(),
    methods.RandomForestClassifier(3, bootstrap=False),
    methods.RandomForestRegressor(3, bootstrap=False),
    methods.RandomForestClassifier(3),
    methods.RandomForestRegressor(3),
]


@pytest.mark.parametrize("depth", [1, 3, 5])
@pytest.mark.parametrize(("name", "criterion"), CASES)
def test_fit__gains_as_the_exact_tree(name, criterion, depth):
    """Down to depth 3 no two cuts of digits are equally good: the same tree; below, as good a tree."""
    X, y = DIGITS
    ours = getattr(methods, name)(criterion=criterion, max_depth=depth).fit(X, y)
    theirs = getattr(tree, name)(criterion=criterion, max_depth=depth, random_state=0).fit(X, y)
    np.testing.assert_allclose(impurity_of_leaves(ours), impurity_of_leaves(theirs), rtol=2e-2)
    reference = theirs.tree_
    if depth <= 3:
        np.testing.assert_array_equal(ours.tree_.feature, reference.feature)
        np.testing.assert_allclose(ours.tree_.threshold, reference.threshold)
        np.testing.assert_allclose(ours.tree_.impurity, reference.impurity, atol=1e-9)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X))
        np.testing.assert_allclose(ours.feature_importances_, theirs.feature_importances_, atol=1e-9)


@st.composite
def small_data(draw):
    """Few distinct values: duplicates, constant columns and one class are common."""
    n, d = draw(st.integers(1, 24)), draw(st.integers(1, 4))
    X = draw(arrays(np.float32, (n, d), elements=st.integers(-2, 2)))
    y = draw(arrays(np.int64, n, elements=st.integers(0, draw(st.integers(0, 3)))))
    weights = draw(st.none() | arrays(np.float64, n, elements=st.sampled_from([0.5, 1.0, 3.0])))
    return X, y, weights, draw(st.none() | st.integers(1, n))


@pytest.mark.parametrize(("name", "criterion"), CASES)
@hypothesis.given(data=small_data(), leaf=st.integers(1, 3))
@hypothesis.settings(max_examples=40)
def test_fit__few_values_as_scikit_learn(name, criterion, data, leaf):
    """What ties leave open cannot be compared: so the gain of one cut, and what a full tree says of its own rows."""
    X, y, weights, chunk = data
    given = X if chunk is None else da.from_array(X, (chunk, X.shape[1]))
    stump = {"criterion": criterion, "max_depth": 1, "min_samples_leaf": leaf}
    for parameters in (stump, {"criterion": criterion}):
        ours = getattr(methods, name)(**parameters).fit(given, y, weights)
        theirs = getattr(tree, name)(random_state=0, **parameters).fit(X, y, weights)
        if parameters is stump:
            assert ours.get_depth() == theirs.get_depth()
            np.testing.assert_allclose(impurity_of_leaves(ours), impurity_of_leaves(theirs), atol=1e-9)
        else:
            word = "predict_proba" if hasattr(ours, "predict_proba") else "predict"
            np.testing.assert_allclose(getattr(ours, word)(X), getattr(theirs, word)(X), atol=1e-9)
    np.testing.assert_allclose(ours.tree_.impurity[0], theirs.tree_.impurity[0], atol=1e-9)


def impurity_of_leaves(fitted):
    """Return the impurity that is left, times its weight."""
    nodes = fitted.tree_
    return np.sum((nodes.impurity * nodes.weighted_n_node_samples)[nodes.feature < 0])


@pytest.mark.parametrize("data", DATA)
def test_score__as_scikit_learn(data):
    X, y = DATA[data]
    train = np.arange(len(X)) % 3 > 0
    for name, slack in (("DecisionTreeClassifier", 0.06), ("RandomForestClassifier", 0.03)):
        theirs = getattr(tree if "Tree" in name else ensemble, name)(random_state=0).fit(X[train], y[train])
        ours = getattr(methods, name)(random_state=0).fit(X[train], y[train])
        assert ours.score(X[~train], y[~train]) >= theirs.score(X[~train], y[~train]) - slack
        assert ours.score(X[train], y[train]) > 0.99


@pytest.mark.parametrize("method", ALL, ids=str)
@pytest.mark.parametrize("kind", ["few values", "many values"])
def test_fit__does_not_depend_on_chunks(method, kind):
    X, y = (part[:900] for part in DIGITS)
    if kind == "many values":
        X = X + np.random.default_rng(0).random(X.shape)
    weights = np.random.default_rng(1).random(len(X))
    fitted = [
        method.set_params(random_state=7).fit(data, y, weights).predict(X)
        for data in (X, da.from_array(X, (900, 64)), da.from_array(X, (301, 17)), da.from_array(X, (97, 64)))
    ]
    for other in fitted[1:]:
        np.testing.assert_array_equal(fitted[0], other)


def test_fit__does_not_depend_on_threads():
    one, two = (methods.RandomForestClassifier(8, random_state=0, n_jobs=n).fit(*DIGITS) for n in (1, 2))
    np.testing.assert_array_equal(one.predict_proba(DIGITS[0]), two.predict_proba(DIGITS[0]))


BY_LEVELS = [
    methods.DecisionTreeClassifier(),
    methods.DecisionTreeClassifier(criterion="entropy", max_features="sqrt", class_weight="balanced"),
    methods.DecisionTreeRegressor(min_samples_leaf=3, min_impurity_decrease=1e-4),
    methods.RandomForestClassifier(3),
    methods.RandomForestRegressor(3, max_features=0.3),
]


@pytest.mark.parametrize("method", BY_LEVELS, ids=str)
@pytest.mark.parametrize("chunks", [None, (301, 17)])
@pytest.mark.parametrize(("rows", "histograms"), [(300, 1000), (50, 70), (0, 3)])
def test_fit__by_levels_as_in_one_piece(monkeypatch, method, chunks, rows, histograms):
    """Nodes of so many rows grow in one piece; a pass has room for so many histograms."""
    X, y = DIGITS
    X = X + (np.arange(len(X)) % 400)[:, None] * (np.arange(64) == 5)  # a column of more than 256 values
    weights = None if rows == 50 else np.random.default_rng(1).random(len(X))
    method = method.set_params(random_state=3)
    whole = method.fit(X, y, weights)._trees
    memory, channels = 1e9, getattr(method, "n_classes_", 3) + 1
    # Numbers of rows take four bytes, weights eight.
    width = 4 if weights is None and getattr(method, "class_weight", "") is None else 8
    for engine in ("Serial", "Scheduled"):
        for word, value in {"memory": memory, "task_memory": memory, "slots": 2}.items():
            monkeypatch.setattr(f"tasks.methods.execution.{engine}.{word}", lambda self, value=value: value)
    monkeypatch.setattr("tasks.methods.trees.forest.MEMORY_FRACTION", 1e-9)
    monkeypatch.setattr("tasks.methods.trees.levels.CODE_BYTES", 0)
    monkeypatch.setattr("tasks.methods.trees.levels.NODE_FRACTION", rows * row_bytes(64) / memory)
    monkeypatch.setattr("tasks.methods.trees.levels.EXTRACT_FRACTION", 2 * rows * row_bytes(64) / memory)
    monkeypatch.setattr(
        "tasks.methods.trees.levels.HISTOGRAM_FRACTION", 2 * histograms * 256 * channels * width / memory
    )
    monkeypatch.setattr("tasks.methods.trees.levels.BINS_FRACTION", 0 if rows == 50 else 1)
    monkeypatch.setattr("tasks.methods.execution.WAVE_FRACTION", 0 if rows == 50 else 1)
    passes = []
    monkeypatch.setattr("tasks.methods.trees.levels.histograms", counted(levels.histograms, passes))
    by_levels = method.fit(X if chunks is None else da.from_array(X, chunks), y, weights)._trees
    assert max(passes) <= histograms
    assert len(passes) > 3
    for one, other in zip(whole, by_levels, strict=True):
        for name in vars(one):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def counted(function, sizes):
    def call(*arguments):
        found = function(*arguments)
        sizes.append(len(found))
        return found

    return call


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
        methods.DecisionTreeClassifier(**parameters).fit(*DIGITS)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("width", [None, "sqrt", "log2", 0.3, 5, 1000])
def test_attributes__as_scikit_learn(lazy, width):
    X, y = DATA["wine"]
    data = da.from_array(X, (50, 4)) if lazy else X
    for name in ("DecisionTreeClassifier", "DecisionTreeRegressor"):
        options = {"max_features": width if width != 1000 else len(X.T), "max_depth": 3, "random_state": 0}
        ours, theirs = getattr(methods, name)(**options).fit(data, y), getattr(tree, name)(**options).fit(X, y)
        assert (ours.n_outputs_, ours.max_features_) == (theirs.n_outputs_, theirs.max_features_)
        assert getattr(ours, "n_classes_", 0) == getattr(theirs, "n_classes_", 0) or name.endswith("Regressor")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", ["Classifier", "Regressor"])
def test_estimators__are_the_trees_of_the_forest(lazy, kind):
    X, y = DATA["wine"]
    names = np.array(["red", "white", "rose"])[y] if kind == "Classifier" else y
    data = da.from_array(X, (50, 4)) if lazy else X
    forest = getattr(methods, f"RandomForest{kind}")(5, max_depth=3, random_state=0)
    assert not hasattr(forest, "estimators_")
    forest.fit(data, names)
    theirs = getattr(ensemble, f"RandomForest{kind}")(5, max_depth=3, random_state=0).fit(X, names)
    assert forest.n_outputs_ == theirs.n_outputs_
    assert len(forest.estimators_) == len(theirs.estimators_)
    for one, other in zip(forest.estimators_, theirs.estimators_, strict=True):
        assert type(one).__name__ == type(other).__name__
        assert (one.max_depth, one.max_features_) == (other.max_depth, other.max_features_)
    word = "predict_proba" if kind == "Classifier" else "predict"
    mean = np.mean([np.asarray(getattr(one, word)(data)) for one in forest.estimators_], axis=0)
    np.testing.assert_allclose(np.asarray(getattr(forest, word)(data)), mean, rtol=1e-12, atol=1e-12)
    leaves = np.stack([np.asarray(one.apply(data)) for one in forest.estimators_], axis=1)
    np.testing.assert_array_equal(np.asarray(forest.apply(data)), leaves)
    if kind == "Classifier":
        assert set(forest.estimators_[0].predict(X)) <= {"red", "white", "rose"}


@pytest.mark.parametrize("name", ["DecisionTreeClassifier", "DecisionTreeRegressor"])
@pytest.mark.parametrize("chunks", [None, 1797, 200])
def test_decision_path__as_scikit_learn(name, chunks):
    """The same cuts in the same numbering, so scikit-learn's own paths; values of few kinds, so few ties."""
    X, y = DATA["wine"]
    X = np.round(X / X.std(axis=0), 1)
    ours = getattr(methods, name)(max_depth=1).fit(X, y)
    theirs = getattr(tree, name)(max_depth=1, random_state=0).fit(X, y)
    data = X if chunks is None else da.from_array(X, (chunks, 5))
    for fitted in (ours, getattr(methods, name)().fit(X, y)):
        paths, leaves = fitted.decision_path(data), np.asarray(fitted.apply(data))
        assert isinstance(paths, csr_matrix if chunks is None else da.Array)
        paths = paths if chunks is None else paths.compute()
        assert isinstance(paths, csr_matrix)
        assert paths.dtype == np.int64
        assert paths.shape == (len(X), fitted.tree_.node_count)
        nodes = fitted.tree_
        for row, (leaf, values) in enumerate(zip(leaves, X, strict=True)):  # walked down by hand
            node, seen = 0, [0]
            while nodes.feature[node] >= 0:
                node = nodes.children[node, int(values[nodes.feature[node]] > nodes.threshold[node])]
                seen.append(node)
            assert seen[-1] == leaf
            assert sorted(paths[row].indices) == seen
        if fitted is ours:
            assert paths.sum() == theirs.decision_path(X).sum()


@pytest.mark.parametrize("name", ["RandomForestClassifier", "RandomForestRegressor"])
@pytest.mark.parametrize("chunks", [None, 60])
def test_decision_path__of_a_forest_is_that_of_its_trees_side_by_side(name, chunks):
    X, y = DATA["wine"]
    data = X if chunks is None else da.from_array(X, (chunks, 5))
    ours = getattr(methods, name)(5, max_depth=3, random_state=0).fit(data, y)
    paths, starts = ours.decision_path(data)
    paths = paths if chunks is None else paths.compute()
    np.testing.assert_array_equal(starts, np.cumsum([0, *(one.tree_.node_count for one in ours.estimators_)]))
    for t, one in enumerate(ours.estimators_):
        np.testing.assert_array_equal(paths[:, starts[t] : starts[t + 1]].toarray(), one.decision_path(X).toarray())
