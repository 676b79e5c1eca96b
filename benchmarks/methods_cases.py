"""Which methods race, with which settings, and how they are scored; for ``benchmarks/methods.py``."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np

KINDS = ("ours", "ours, NumPy", "scikit-learn", "scikit-learn-intelex", "dask-ml")
WARM_ROWS = 600
Score = Callable[[Any, np.ndarray, np.ndarray, np.ndarray], float]


def accuracy(model: Any, X: np.ndarray, y: np.ndarray, fitted: np.ndarray) -> float:
    """Share of the test rows whose class was found."""
    return float((np.asarray(model.predict(X)) == y).mean())


def r2(model: Any, X: np.ndarray, y: np.ndarray, fitted: np.ndarray) -> float:
    """R2 of the labels taken as numbers."""
    from sklearn.metrics import r2_score

    return float(r2_score(y, np.asarray(model.predict(X))))


def explained(model: Any, X: np.ndarray, y: np.ndarray, fitted: np.ndarray) -> float:
    """Share of the variance that the components hold."""
    return float(np.sum(model.explained_variance_ratio_))


def inertia(model: Any, X: np.ndarray, y: np.ndarray, fitted: np.ndarray) -> float:
    """Inertia for each row of the fit."""
    return float(model.inertia_) / len(fitted)


def likelihood(model: Any, X: np.ndarray, y: np.ndarray, fitted: np.ndarray) -> float:
    """Mean log-likelihood of the test rows."""
    return float(model.score(X))


def clusters(model: Any, X: np.ndarray, y: np.ndarray, fitted: np.ndarray) -> float:
    """How many clusters there are."""
    found = np.asarray(model.labels_)
    return float(len(np.unique(found[found >= 0])))


def stress(model: Any, X: np.ndarray, y: np.ndarray, fitted: np.ndarray) -> float:
    """Normalised stress of 2,000 rows that were fitted: relative error of their distances."""
    from scipy.spatial.distance import pdist

    there, here = pdist(fitted[:2000]), pdist(np.asarray(model.embedding_[:2000]))
    scale = (there @ here) / (here @ here)
    return float(np.sqrt(((there - scale * here) ** 2).sum() / (there**2).sum()))


def closeness(model: Any, X: np.ndarray, y: np.ndarray, fitted: np.ndarray) -> float:
    """Trustworthiness of 2,000 rows that were fitted."""
    from sklearn.manifold import trustworthiness

    return float(trustworthiness(fitted[:2000], np.asarray(model.embedding_[:2000])))


@dataclass(frozen=True)
class Case:
    """One method: its class's name, its parameters, and where the others have it."""

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] = field(default_factory=dict)
    """Parameters of scikit-learn's that ours does not have."""
    sklearn: str | None = None
    """Module of scikit-learn's class."""
    dask_ml: tuple[str, dict[str, Any]] | None = None
    measure: str = "accuracy"
    score: Score = accuracy
    published: float | None = None
    columns: int | None = None
    """Fitted on as many principal components, made beforehand."""
    scaled: bool = False
    """Columns of mean 0 and variance 1, made beforehand."""
    rows: int | None = None
    """The most rows to fit; scikit-learn takes time or memory by their square."""
    renamed: dict[str, str] = field(default_factory=dict)
    """scikit-learn's words for our parameters."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Who has it."""
        return tuple(
            kind
            for kind in KINDS
            if not (kind.startswith("scikit-learn") and self.sklearn is None)
            and not (kind == "scikit-learn-intelex" and find_spec("sklearnex") is None)
            and not (kind == "dask-ml" and self.dask_ml is None)
        )

    def make(self, kind: str) -> Any:
        """A new model."""
        if kind.startswith("ours"):
            from tasks import methods

            return getattr(methods, self.method)(**self.options)
        if kind == "dask-ml":
            assert self.dask_ml is not None
            return getattr(import_module(self.dask_ml[0]), self.method)(**self.dask_ml[1])
        assert self.sklearn is not None
        if kind == "scikit-learn-intelex":
            import_module("sklearnex").patch_sklearn(verbose=False)
        options = {self.renamed.get(word, word): value for word, value in self.options.items()} | self.theirs
        return getattr(import_module(self.sklearn), self.method)(**{k: v for k, v in options.items() if k})

    def prepared(self, X: np.ndarray) -> np.ndarray:
        """What the method is fitted on."""
        global _REDUCED, _SCALER
        if self.scaled:
            if _SCALER is None:
                from sklearn.preprocessing import StandardScaler

                _SCALER = StandardScaler().fit(X)
            scaled: np.ndarray = _SCALER.transform(X)
            return scaled
        if self.columns is None:
            return X
        if _REDUCED is None:
            from sklearn.decomposition import PCA

            _REDUCED = PCA(self.columns, svd_solver="covariance_eigh").fit(X)
        return np.ascontiguousarray(_REDUCED.transform(X))


_REDUCED: Any = None
_SCALER: Any = None

CASES: dict[str, Case] = {
    "KNeighborsClassifier": Case(
        "KNeighborsClassifier",
        {"n_neighbors": 4, "weights": "distance"},
        {"n_jobs": -1},
        "sklearn.neighbors",
        published=0.854,
    ),
    "SVC": Case("SVC", {"C": 10}, {"cache_size": 1000}, "sklearn.svm", published=0.897),
    "LinearSVC": Case("LinearSVC", {"C": 0.01}, {}, "sklearn.svm", published=0.836),
    "LogisticRegression": Case(
        "LogisticRegression",
        {},
        {},
        "sklearn.linear_model",
        published=0.842,
    ),
    "LinearRegression": Case("LinearRegression", {}, {"n_jobs": -1}, "sklearn.linear_model", measure="R2", score=r2),
    "Ridge": Case("Ridge", {}, {}, "sklearn.linear_model", measure="R2", score=r2),
    "Lasso": Case("Lasso", {"alpha": 0.001}, {}, "sklearn.linear_model", measure="R2", score=r2),
    "GaussianNB": Case(
        "GaussianNB", {"var_smoothing": 1e-2}, {}, "sklearn.naive_bayes", ("dask_ml.naive_bayes", {}), published=0.511
    ),
    "MultinomialNB": Case("MultinomialNB", {}, {}, "sklearn.naive_bayes"),
    "BernoulliNB": Case("BernoulliNB", {"binarize": 0.3}, {}, "sklearn.naive_bayes"),
    "GaussianNB, scaled": Case(
        "GaussianNB", {"var_smoothing": 1e-2}, {}, "sklearn.naive_bayes", ("dask_ml.naive_bayes", {}), scaled=True
    ),
    "KNeighborsClassifier, scaled": Case(
        "KNeighborsClassifier",
        {"n_neighbors": 4, "weights": "distance"},
        {"n_jobs": -1},
        "sklearn.neighbors",
        scaled=True,
    ),
    "LogisticRegression, scaled": Case("LogisticRegression", {"C": 0.01}, {}, "sklearn.linear_model", scaled=True),
    "LinearSVC, scaled": Case("LinearSVC", {"C": 0.0001}, {}, "sklearn.svm", scaled=True),
    "SVC, scaled": Case("SVC", {"C": 10}, {"cache_size": 1000}, "sklearn.svm", scaled=True),
    "DecisionTreeClassifier": Case(
        "DecisionTreeClassifier",
        {"criterion": "entropy", "max_depth": 10, "random_state": 0},
        {},
        "sklearn.tree",
        published=0.798,
    ),
    "RandomForestClassifier": Case(
        "RandomForestClassifier",
        {"n_estimators": 100, "criterion": "entropy", "max_depth": 50, "random_state": 0, "n_jobs": -1},
        {},
        "sklearn.ensemble",
        published=0.873,
    ),
    "PCA": Case(
        "PCA",
        {"n_components": 50},
        {},
        "sklearn.decomposition",
        ("dask_ml.decomposition", {"n_components": 50, "svd_solver": "full"}),
        "share of variance",
        explained,
    ),
    "PCA, randomized": Case(
        "PCA",
        {"n_components": 50, "svd_solver": "randomized", "random_state": 0},
        {},
        "sklearn.decomposition",
        ("dask_ml.decomposition", {"n_components": 50, "svd_solver": "randomized", "random_state": 0}),
        "share of variance",
        explained,
    ),
    "IncrementalPCA": Case(
        "IncrementalPCA", {"n_components": 50}, {}, "sklearn.decomposition", None, "share of variance", explained
    ),
    "TruncatedSVD": Case(
        "TruncatedSVD",
        {"n_components": 50, "random_state": 0},
        {},
        "sklearn.decomposition",
        None,
        "share of variance",
        explained,
    ),
    "KMeans": Case(
        "KMeans",
        {"n_clusters": 10, "random_state": 0, "max_iter": 50, "tol": 0.0},
        {"n_init": 1},
        "sklearn.cluster",
        ("dask_ml.cluster", {"n_clusters": 10, "random_state": 0, "max_iter": 50, "tol": 0.0}),
        "inertia / row",
        inertia,
    ),
    "MiniBatchKMeans": Case(
        "MiniBatchKMeans",
        {"n_clusters": 10, "random_state": 0},
        {},
        "sklearn.cluster",
        None,
        "inertia / row",
        inertia,
    ),
    "AgglomerativeClustering, single": Case(
        "AgglomerativeClustering",
        {"n_clusters": 10, "linkage": "single"},
        {},
        "sklearn.cluster",
        None,
        "clusters",
        clusters,
        rows=20_000,
    ),
    "AgglomerativeClustering, Ward": Case(
        "AgglomerativeClustering", {"n_clusters": 10}, {}, "sklearn.cluster", None, "clusters", clusters, rows=10_000
    ),
    "DBSCAN": Case("DBSCAN", {"eps": 5.0}, {"n_jobs": -1}, "sklearn.cluster", None, "clusters", clusters, rows=20_000),
    "HDBSCAN": Case(
        "HDBSCAN",
        {"min_cluster_size": 50, "min_samples": 5},
        {"n_jobs": -1, "copy": True},
        "sklearn.cluster",
        None,
        "clusters",
        clusters,
        rows=20_000,
        columns=50,
    ),
    "MDS": Case(
        "MDS",
        {"method": "smacof", "n_landmarks": 2000, "n_components": 2, "random_state": 0},
        {"n_init": 1, "init": "random"},
        "sklearn.manifold",
        None,
        "stress",
        stress,
        rows=2000,
        renamed={"method": "", "n_landmarks": ""},
    ),
    "MDS, landmarks": Case("MDS", {"n_landmarks": 500, "random_state": 0}, measure="stress", score=stress),
    "LocallyLinearEmbedding": Case(
        "LocallyLinearEmbedding",
        {"n_neighbors": 10, "sample": 10_000, "random_state": 0},
        {"n_jobs": -1},
        "sklearn.manifold",
        None,
        "trustworthiness",
        closeness,
        rows=10_000,
        renamed={"sample": ""},
    ),
    "GaussianMixture": Case(
        "GaussianMixture",
        {"n_components": 10, "random_state": 0, "max_iter": 20},
        {},
        "sklearn.mixture",
        None,
        "log-likelihood",
        likelihood,
        columns=50,
    ),
}


def warm(case: Case, kind: str, X: Any, y: Any) -> None:
    """Import, compile and begin what is begun once, by a fit of a few rows: none of it is a part of the fit."""
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        case.make(kind).fit(X[:WARM_ROWS], y[:WARM_ROWS])


def versions() -> str:
    """What ran."""
    return ", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "dask", "dask-ml", "numpy"))
