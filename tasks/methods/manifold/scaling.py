"""Multidimensional scaling of any number of rows, by landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn import manifold
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.extmath import svd_flip
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import Blocks, open_blocks
from tasks.methods.inputs import check_least, check_matrix
from tasks.methods.manifold import landmarks as of_landmarks
from tasks.methods.manifold.landmarks import Rule, Spread
from tasks.methods.manifold.placing import choose_rows, place_rows

METRICS = ("euclidean", "cityblock", "manhattan", "cosine", "l1", "l2", "chebyshev", "canberra", "braycurtis")

CANDIDATES = 10
"""Rows per landmark that "maxmin" chooses among."""


class MDS(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Coordinates in few dimensions that keep distances, of landmarks and, by them, of all rows.

    All pairs of rows are too many; so `n_landmarks` rows are scaled with all distances among them, and every other row
    is placed by its distances to them. Method "landmark" is landmark MDS: classical scaling of the landmarks, then
    triangulation, which is linear in the squared distances. Method "smacof" is metric MDS: scikit-learn's SMACOF
    minimises the stress of the landmarks, beginning at the classical scaling; then each other row goes where its own
    stress against the landmarks has a minimum, from the mean of its three nearest.

    What is exact: with at least as many landmarks as rows, "landmark" is classical MDS (with Euclidean distances: the
    scores of PCA, up to signs), and "smacof" is `sklearn.manifold.smacof` from that start. With fewer, "landmark" keeps
    all distances, and is classical MDS up to rounding, if the distances are Euclidean, the landmarks span the data and
    `n_components` reaches its rank. Otherwise it is approximate; with Euclidean distances it is what PCA of the
    landmarks makes of all rows, so `PCA` of all rows is better and cheaper. "smacof" is approximate wherever rows are
    not landmarks. `normalized_stress_` tells how well all rows came out.

    Parameters
    ----------
    n_components : int, default 2
        At most the number of landmarks.
    method : {"landmark", "smacof"}, default "landmark"
    metric : str, default "euclidean"
        Distance in the data; "euclidean", "cityblock", "cosine", "chebyshev", "canberra" or "braycurtis".
    n_landmarks : int, default 1000
    selection : {"random", "maxmin"}, default "random"
        How landmarks are chosen: at random, or one by one the row that is farthest from those chosen, among ten times
        as many random rows. "maxmin" covers the data evenly and takes outliers.
    max_iter : int, default 300
        Most steps of "smacof", for the landmarks and for each row.
    eps : float, default 1e-6
        Ends SMACOF as in scikit-learn, and the steps of a row when they are shorter, relative to the landmarks' size.
    random_state : int, RandomState or None
        Chooses the landmarks, by position; the chunks have no part in it.

    Attributes
    ----------
    embedding_ : ndarray or dask.array.Array, float64 (n, k)
        A Dask array, held by the workers, if the data was one. With "landmark" about its mean and along its principal
        axes.
    landmarks_ : ndarray (m, d)
    landmark_rows_ : ndarray, int64 (m,)
        Their rows in the data.
    landmark_embedding_ : ndarray, float64 (m, k)
    stress_ : float
        As in scikit-learn: the sum of squared differences between distances in the data and in the embedding, over all
        pairs of landmarks.
    normalized_stress_ : float
        Over all pairs of a row and a landmark, the root of the sum of these differences squared, relative to the sum
        of the squared distances in the data (Kruskal's stress 1): 0 is perfect, 0.2 poor.
    n_iter_ : int
        Steps of SMACOF for the landmarks; 1 with "landmark".
    n_features_in_ : int

    Notes
    -----
    Two passes, one for the landmarks. With m landmarks: in this process m d values and five m x m matrices of float64
    (8 MB each for 1000), m^3 operations for the scaling, and m^2 k for each step of SMACOF; "maxmin" takes 10 m d
    values and m^2 d operations. Placing costs n m d operations, and n m k for each step of "smacof" (some tens). Per
    task: one block, the landmarks, and a few tiles of 1 M distances. Each task gets m d values, sends k^2 and keeps k
    for each row. `transform` is lazy on Dask arrays; the landmarks are part of their graph.

    References
    ----------
    See `tasks.methods.manifold.landmarks`. I. Borg, P. Groenen (2005). Modern Multidimensional Scaling, 2nd ed.,
    chapters 8 and 12. J. B. Kruskal (1964). Psychometrika 29, 1-27 (stress 1).
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        method: str = "landmark",
        metric: str = "euclidean",
        n_landmarks: int = 1000,
        selection: str = "random",
        max_iter: int = 300,
        eps: float = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.metric = metric
        self.n_landmarks = n_landmarks
        self.selection = selection
        self.max_iter = max_iter
        self.eps = eps
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Scale the landmarks and place all rows.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)
            At least two rows.

        Raises
        ------
        ValueError
            If a parameter is not usable, there are fewer landmarks than components, or the data is not finite.
        """
        self._check_parameters()
        X = check_matrix(self, X, reset=True, rows=2)
        if self.n_components > min(self.n_landmarks, X.shape[0]):
            raise ValueError(
                f"expected n_components of at most the number of landmarks, {min(self.n_landmarks, X.shape[0])}, "
                f"received {self.n_components}; raise n_landmarks or add samples"
            )
        with open_blocks(X, name=type(self).__name__, passes=2) as rows:
            self.landmark_rows_ = self._choose(rows)
            self.landmarks_ = rows.take(self.landmark_rows_, "landmarks")
            distances = of_landmarks.distances_to(self.landmarks_, self.landmarks_, self.metric)
            distances = (distances + distances.T) / 2
            np.fill_diagonal(distances, 0.0)
            self._scale(distances)
            handles = self._place(rows)
            self.embedding_ = rows.assemble(handles, (self.n_components,), np.float64)
        off = distances - of_landmarks.distances_to(self.landmark_embedding_, self.landmark_embedding_, "euclidean")
        self.stress_ = float(np.vdot(off, off) / 2)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Return `embedding_` of a fit."""
        return self.fit(X).embedding_

    def transform(self, X: Any) -> Any:
        """Place rows by their distances to the landmarks.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, float64 (m, k)
        """
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        apply = partial(of_landmarks.place, rule=self._rule())
        held = (self.landmarks_, *self._held)
        return place_rows(X, apply, held, name=type(self).__name__, columns=self.n_components)

    @property
    def _n_features_out(self) -> int:
        # Read by ClassNamePrefixFeaturesOutMixin.
        return int(self.landmark_embedding_.shape[1])

    def _check_parameters(self) -> None:
        for name in ("n_components", "n_landmarks", "max_iter"):
            check_least(name, getattr(self, name), 1)
        for name, values in (
            ("method", ("landmark", "smacof")),
            ("metric", METRICS),
            ("selection", ("random", "maxmin")),
        ):
            if getattr(self, name) not in values:
                raise ValueError(f"expected {name} one of {', '.join(values)}; received {getattr(self, name)!r}")
        if not isinstance(self.eps, Real) or self.eps < 0:
            raise ValueError(f"expected eps of at least 0, received {self.eps!r}")

    def _rule(self) -> Rule:
        return Rule(self.metric, (self.max_iter, float(self.eps)) if self.method == "smacof" else None)

    def _choose(self, rows: Blocks) -> np.ndarray:
        random = check_random_state(self.random_state)
        if self.selection == "random" or rows.shape[0] <= self.n_landmarks:
            return choose_rows(self.n_landmarks, rows.shape[0], random)
        some = choose_rows(CANDIDATES * self.n_landmarks, rows.shape[0], random)
        candidates = rows.take(some, "candidates")
        chosen: np.ndarray = some[of_landmarks.choose_far(candidates, self.n_landmarks, self.metric, random)]
        return chosen

    def _scale(self, distances: np.ndarray) -> None:
        scaling = of_landmarks.classical_scaling(distances, self.n_components)
        self.landmark_embedding_ = scaling.coordinates
        self.n_iter_ = 1
        self._held: tuple[np.ndarray, ...] = (scaling.operator, scaling.squares, np.zeros(self.n_components))
        if self.method == "smacof":
            if distances.any():
                self.landmark_embedding_, _, self.n_iter_ = manifold.smacof(
                    distances,
                    init=scaling.coordinates,
                    n_init=1,
                    max_iter=self.max_iter,
                    eps=self.eps,
                    normalized_stress=False,
                    return_n_iter=True,
                )
            self._held = (self.landmark_embedding_,)

    def _place(self, rows: Blocks) -> list:
        """Place all rows, measure them, and turn what was triangulated to its principal axes; return handles."""
        apply = partial(of_landmarks.place_and_measure, rule=self._rule())
        shared = (self.landmarks_, self.landmark_embedding_, *self._held)
        placed = rows.map("place", apply, shared=shared)
        each = [[(handle,) for handle in placed]]
        found = rows.engine.reduce_each(rows.named("spread"), _spread, each, combine=of_landmarks.merge_spreads)
        spread: Spread = rows.fetch(found)[0]
        self.normalized_stress_ = float(np.sqrt(spread.stress / spread.total)) if spread.total > 0 else 0.0
        turn, mean = np.eye(self.n_components), np.zeros(self.n_components)
        if self.method == "landmark":
            turn, mean = svd_flip(np.linalg.eigh(spread.scatter)[1][:, ::-1], None)[0], spread.mean
            operator, squares, _ = self._held
            self._held = (operator @ turn, squares, mean @ turn)
            self.landmark_embedding_ = (self.landmark_embedding_ - mean) @ turn
        return rows.engine.map(rows.named("turn"), _turned, each[0], (turn, mean))


def _spread(placed: tuple[np.ndarray, Spread]) -> Spread:
    return placed[1]


def _turned(placed: Sequence[Any], turn: np.ndarray, mean: np.ndarray) -> np.ndarray:
    result: np.ndarray = (placed[0] - mean) @ turn
    return result
