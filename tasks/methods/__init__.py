"""Classical methods with scikit-learn's interface, fitted out of core on Dask.

Every method takes NumPy or Dask arrays. A Dask array is worked on block by block where it lies and is never
gathered; a NumPy array is worked on in this process, without a scheduler. The classes are imported on first use,
so that this package costs nothing until a method is named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.methods.bayes import BernoulliNB, GaussianNB, MultinomialNB
    from tasks.methods.clusters import KMeans
    from tasks.methods.decomposition import PCA
    from tasks.methods.density import DBSCAN
    from tasks.methods.encoding import OneHotEncoder
    from tasks.methods.hierarchy.agglomerative import AgglomerativeClustering
    from tasks.methods.hierarchy.density import HDBSCAN
    from tasks.methods.incremental import IncrementalPCA, TruncatedSVD
    from tasks.methods.kernel_svm.maps import Nystroem, RBFSampler
    from tasks.methods.kernel_svm.svc import SVC
    from tasks.methods.linear import Lasso, LinearRegression, Ridge
    from tasks.methods.logistic import LogisticRegression
    from tasks.methods.manifold.locally_linear import LocallyLinearEmbedding
    from tasks.methods.manifold.scaling import MDS
    from tasks.methods.manifold.views import EmbeddingView
    from tasks.methods.minibatch import MiniBatchKMeans
    from tasks.methods.mixture import GaussianMixture
    from tasks.methods.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from tasks.methods.preprocessing import StandardScaler
    from tasks.methods.scaling import MaxAbsScaler, MinMaxScaler
    from tasks.methods.selection.halving import HalvingSearchCV, HyperbandSearchCV
    from tasks.methods.selection.search import GridSearchCV, RandomizedSearchCV
    from tasks.methods.spectral import SpectralClustering
    from tasks.methods.svm import LinearSVC
    from tasks.methods.text.vectorizers import CountVectorizer, HashingVectorizer, TfidfVectorizer
    from tasks.methods.trees.forest_estimators import RandomForestClassifier, RandomForestRegressor
    from tasks.methods.trees.single_estimators import DecisionTreeClassifier, DecisionTreeRegressor

__all__ = [
    "DBSCAN",
    "HDBSCAN",
    "MDS",
    "PCA",
    "SVC",
    "AgglomerativeClustering",
    "BernoulliNB",
    "CountVectorizer",
    "DecisionTreeClassifier",
    "DecisionTreeRegressor",
    "EmbeddingView",
    "GaussianMixture",
    "GaussianNB",
    "GridSearchCV",
    "HalvingSearchCV",
    "HashingVectorizer",
    "HyperbandSearchCV",
    "IncrementalPCA",
    "KMeans",
    "KNeighborsClassifier",
    "KNeighborsRegressor",
    "Lasso",
    "LinearRegression",
    "LinearSVC",
    "LocallyLinearEmbedding",
    "LogisticRegression",
    "MaxAbsScaler",
    "MinMaxScaler",
    "MiniBatchKMeans",
    "MultinomialNB",
    "Nystroem",
    "OneHotEncoder",
    "RBFSampler",
    "RandomForestClassifier",
    "RandomForestRegressor",
    "RandomizedSearchCV",
    "Ridge",
    "SpectralClustering",
    "StandardScaler",
    "TfidfVectorizer",
    "TruncatedSVD",
]

_ROOMS = {
    "AgglomerativeClustering": "hierarchy.agglomerative",
    "BernoulliNB": "bayes",
    "CountVectorizer": "text.vectorizers",
    "DBSCAN": "density",
    "DecisionTreeClassifier": "trees.single_estimators",
    "DecisionTreeRegressor": "trees.single_estimators",
    "EmbeddingView": "manifold.views",
    "GaussianMixture": "mixture",
    "GaussianNB": "bayes",
    "GridSearchCV": "selection.search",
    "HDBSCAN": "hierarchy.density",
    "HalvingSearchCV": "selection.halving",
    "HashingVectorizer": "text.vectorizers",
    "HyperbandSearchCV": "selection.halving",
    "IncrementalPCA": "incremental",
    "KMeans": "clusters",
    "KNeighborsClassifier": "neighbors",
    "KNeighborsRegressor": "neighbors",
    "Lasso": "linear",
    "LinearRegression": "linear",
    "LinearSVC": "svm",
    "LocallyLinearEmbedding": "manifold.locally_linear",
    "LogisticRegression": "logistic",
    "MDS": "manifold.scaling",
    "MaxAbsScaler": "scaling",
    "MinMaxScaler": "scaling",
    "MiniBatchKMeans": "minibatch",
    "MultinomialNB": "bayes",
    "Nystroem": "kernel_svm.maps",
    "OneHotEncoder": "encoding",
    "PCA": "decomposition",
    "RBFSampler": "kernel_svm.maps",
    "RandomForestClassifier": "trees.forest_estimators",
    "RandomForestRegressor": "trees.forest_estimators",
    "RandomizedSearchCV": "selection.search",
    "Ridge": "linear",
    "SVC": "kernel_svm.svc",
    "SpectralClustering": "spectral",
    "StandardScaler": "preprocessing",
    "TfidfVectorizer": "text.vectorizers",
    "TruncatedSVD": "incremental",
}


def __getattr__(name: str) -> type:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no method {name!r}; there are {', '.join(__all__)}")
    method: type = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = method
    return method


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
