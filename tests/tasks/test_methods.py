"""What holds for every method: scikit-learn's checks, lazy imports, laziness, wrong input."""

from __future__ import annotations

import pickle
import subprocess
import sys

import dask
import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import estimator_checks_generator

from tasks import methods
from tasks.methods.execution import step_name

X, Y = load_digits(return_X_y=True)
EVERY = [
    methods.KNeighborsClassifier(3),
    methods.KNeighborsClassifier(3, weights="distance"),
    methods.LinearSVC(),
    methods.PCA(),
    methods.PCA(1, whiten=True),
    methods.PCA(1, svd_solver="randomized", random_state=0),
    methods.IncrementalPCA(),
    methods.TruncatedSVD(1, random_state=0),
    methods.MDS(1),
    methods.MDS(1, method="smacof", n_landmarks=20),
    methods.LocallyLinearEmbedding(n_neighbors=3, n_components=1),
    methods.LocallyLinearEmbedding(n_neighbors=3, n_components=1, sample=8),
    methods.KMeans(),
    methods.MiniBatchKMeans(),
    methods.AgglomerativeClustering(),
    methods.AgglomerativeClustering(linkage="single"),
    methods.AgglomerativeClustering(exact_rows=5, n_micro_clusters=10, random_state=0),
    methods.GaussianMixture(),
    methods.DBSCAN(),
    methods.DBSCAN(eps="auto"),
    methods.HDBSCAN(),
    methods.EmbeddingView("pca", random_state=0),
    methods.SpectralClustering(2),
    methods.SpectralClustering(2, sample=8),
    methods.StandardScaler(),
    methods.MinMaxScaler(),
    methods.MaxAbsScaler(),
    methods.OneHotEncoder(),
    methods.OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    methods.GaussianNB(),
    methods.MultinomialNB(),
    methods.BernoulliNB(),
    methods.KNeighborsRegressor(3),
    methods.KNeighborsRegressor(3, weights="distance"),
    methods.LinearRegression(),
    methods.Ridge(),
    methods.Lasso(),
    methods.LogisticRegression(),
    methods.SVC(),
    methods.SVC(gamma="auto", tol=1e-8),
    methods.Nystroem(n_components=2, random_state=0),
    methods.RBFSampler(random_state=0),
    methods.DecisionTreeClassifier(),
    methods.DecisionTreeRegressor(),
    methods.RandomForestClassifier(5),
    methods.RandomForestClassifier(5, bootstrap=False),
    methods.RandomForestRegressor(5),
    methods.RandomForestRegressor(5, bootstrap=False),
]
ON_BLOCKS = [
    methods.KNeighborsClassifier(3),
    methods.LinearSVC(C=0.01, tol=0.01),
    methods.PCA(4),
    methods.IncrementalPCA(4),
    methods.TruncatedSVD(4, n_iter=12, random_state=0),
    methods.MDS(n_landmarks=40, random_state=0),
    methods.LocallyLinearEmbedding(n_neighbors=3, sample=60, random_state=0),
    methods.KMeans(3, random_state=0),
    methods.MiniBatchKMeans(3, random_state=0),
    methods.AgglomerativeClustering(linkage="single"),
    methods.AgglomerativeClustering(3, exact_rows=500, n_micro_clusters=50, random_state=0),
    methods.GaussianMixture(3, random_state=0, reg_covar=0.1),
    methods.DBSCAN(eps=20.0),
    methods.HDBSCAN(min_samples=2),
    methods.SpectralClustering(3, gamma=1e-3, sample=60, random_state=0),
    methods.StandardScaler(),
    methods.MinMaxScaler(),
    methods.MaxAbsScaler(),
    methods.GaussianNB(),
    methods.MultinomialNB(),
    methods.BernoulliNB(),
    methods.KNeighborsRegressor(3),
    methods.LinearRegression(),
    methods.Ridge(),
    methods.Lasso(),
    methods.LogisticRegression(C=0.01),
    methods.SVC(C=0.1),
    methods.Nystroem(gamma=1e-3, n_components=2, random_state=0),
    methods.RBFSampler(gamma="scale", random_state=0),
    methods.DecisionTreeClassifier(),
    methods.DecisionTreeRegressor(),
    methods.RandomForestClassifier(5, random_state=0),
    methods.RandomForestRegressor(5, random_state=0),
]


LEFT_OUT = {
    ("KMeans()", "check_sample_weight_equivalence_on_dense_data"): (
        "the start is drawn by position, and rows that stand twice have other positions, as in scikit-learn"
    ),
    ("", "check_array_api_input"): "asks for other array libraries, and skips without them",
    (
        "SVC()",
        "check_sample_weight_equivalence_on_dense_data",
    ): "gamma='scale' sees no weights, as in scikit-learn",
    (
        "SVC()",
        "check_sample_weight_equivalence_on_sparse_data",
    ): "gamma='scale' sees no weights, as in scikit-learn",
    (
        "MiniBatchKMeans()",
        "check_sample_weight_equivalence_on_dense_data",
    ): "rows are drawn by weight, in place of repeated, as in scikit-learn",
    (
        "MiniBatchKMeans()",
        "check_sample_weight_equivalence_on_sparse_data",
    ): "rows are drawn by weight, in place of repeated, as in scikit-learn",
    **{
        (f"RandomForest{kind}(n_estimators=5)", f"check_sample_weight_equivalence_on_{data}_data"): (
            "a bootstrap draws by row number: a row that stands twice is drawn twice, one of weight 2 once"
        )
        for kind in ("Classifier", "Regressor")
        for data in ("dense", "sparse")
    },
    ("Ridge()", "check_non_transformer_estimators_n_iter"): "the solver that scikit-learn chooses does not iterate",
}

# No check is expected to fail.
CHECKS = [
    pytest.param(estimator, check, id=f"{estimator}-{check.func.__name__}")
    for method in EVERY
    for estimator, check in estimator_checks_generator(method)
    if not {("", check.func.__name__), (str(estimator), check.func.__name__)} & LEFT_OUT.keys()
]


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")  # some checks have fewer distinct rows than that
@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_scikit_learn(estimator, check):
    check(estimator)


def test_import__loads_no_library_until_a_method_is_named():
    code = (
        "import sys, tasks; tasks.methods; heavy = {'sklearn', 'scipy', 'distributed', 'keras', 'pandas'};"
        "print(sorted(heavy & set(sys.modules))); tasks.methods.PCA; print('sklearn' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[:2] == ["[]", "True"]


def test_getattr__names_the_methods_there_are():
    assert set(methods.__all__) <= set(dir(methods))
    assert [getattr(methods, name).__name__ for name in methods.__all__] == methods.__all__
    with pytest.raises(AttributeError, match="has no method 'Perceptron'; there are DBSCAN"):
        _ = methods.Perceptron


@pytest.mark.parametrize("method", ON_BLOCKS, ids=lambda m: type(m).__name__)
def test_use__on_dask_is_lazy(method):
    """What is not needed is not computed: with a scheduler that refuses, graphs are still made."""
    data = da.from_array(X, (300, 64))
    fitted = clone(method).fit(X, Y)

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        lazy = [
            getattr(fitted, word)(data)
            for word in ("transform", "decision_function", "predict")
            if hasattr(fitted, word) and not hasattr(fitted, "kneighbors")
        ]
    for array in lazy:
        assert array.shape == array.compute().shape
        assert array.dtype == array.compute().dtype
        assert array.chunks[0] == data.chunks[0]


@pytest.mark.parametrize("method", ON_BLOCKS, ids=lambda m: type(m).__name__)
def test_use__empty_blocks_give_empty_blocks(method):
    fitted = clone(method).fit(X, Y)
    plain, holed = X[:90], da.concatenate([da.zeros((0, 64)), da.from_array(X[:50]), da.zeros((0, 64)), X[50:90]])
    for word in ("transform", "decision_function", "predict", "predict_proba", "score_samples"):
        if hasattr(fitted, word):
            found = getattr(fitted, word)(holed)
            assert found.chunks[0] == holed.chunks[0]
            np.testing.assert_allclose(found.compute(), getattr(fitted, word)(plain), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ON_BLOCKS, ids=lambda m: type(m).__name__)
def test_fit__constructor_stores_and_refit_forgets(method):
    ours = clone(method).fit(da.from_array(X, (300, 64)), Y)
    again = clone(method).fit(X, Y).fit(da.from_array(X, (300, 64)), Y)
    assert again.n_features_in_ == 64
    assert ours.get_params() == method.get_params()
    copy = pickle.loads(pickle.dumps(again))
    word = "predict" if hasattr(copy, "predict") else "transform" if hasattr(copy, "transform") else None
    if word:
        np.testing.assert_allclose(getattr(copy, word)(X[:50]), getattr(ours, word)(X[:50]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ON_BLOCKS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (da.ones((5,)), "expected 2D array"),
        (da.ones((0, 3)), "expected at least [12] rows"),
        (da.from_array(np.full((4, 2), "a")), "expected numbers"),
        (da.ones((6, 2), chunks=2)[da.ones(6, chunks=2) > 0], "compute_chunk_sizes"),
        (da.from_array(np.where(np.eye(4, 5) == 1, np.inf, 0.0), 2), "contains infinity"),
    ],
    ids=["vector", "empty", "strings", "unknown", "infinite"],
)
def test_fit__refuses_dask_input(method, data, message):
    rows = 6 if np.isnan(data.shape[0]) else data.shape[0]
    with pytest.raises(ValueError, match=message):
        clone(method).fit(data, np.arange(rows) % 2)


@pytest.mark.parametrize("method", ON_BLOCKS, ids=lambda m: type(m).__name__)
def test_fit__refuses_a_dask_dataframe(method):
    frame = pytest.importorskip("dask.dataframe").from_dict({"a": [1.0, 2.0], "b": [1.0, 2.0]}, npartitions=1)
    with pytest.raises(TypeError, match=r"received a Dask DataFrame; use its to_dask_array"):
        clone(method).fit(frame, np.array([0, 1]))


@pytest.mark.parametrize("label", ["KNeighborsClassifier(n_neighbors=5)", "gaussian-3 twice"])
def test_step_name__survives_dasks_shortening(label):
    from dask.utils import key_split

    from tasks.methods import execution

    token = execution.label.set(label)
    try:
        name = step_name("search", "unused")
    finally:
        execution.label.reset(token)
    assert key_split((f"{name}-0123456789abcdef0123456789abcdef", 3)) == name == f"{label.replace('-', '_')}.search"
