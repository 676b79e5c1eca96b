from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import DBSCAN as ReferenceDBSCAN
from sklearn.cluster import KMeans as ReferenceKMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA as ReferencePCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.manifold import trustworthiness
from sklearn.metrics import adjusted_rand_score, f1_score, normalized_mutual_info_score, silhouette_score
from sklearn.metrics import confusion_matrix as reference_confusion
from sklearn.neighbors import KNeighborsClassifier as ReferenceNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler as ReferenceScaler

import storage
from storage.layout import Layout
from storage.plan import Plan
from storage.shards import Shard
from storage.versions import publish
from storage.writer import Build
from tasks import methods
from tasks.evaluation import evaluate_method, task_of
from tasks.features import Features
from tasks.scores import accuracy, classification_score, confusion_matrix, psnr

ROWS = 900


def write(folder, images, labels):
    layout = Layout(count=len(images), shard=150, chunk=50)
    splits = {"train": (0, 700), "test": (700, len(images))}
    plan = Plan("clean", "images", layout, {"folder": str(folder)}, images.shape[1:], tuple("0123456789"), splits)
    build = Build(str(folder), plan)
    build.begin()
    for number in range(layout.shards):
        rows = slice(*layout.bounds(number))
        ids = np.arange(rows.start, rows.stop)
        split = np.where(ids < 700, 0, 2).astype(np.uint8)
        build.write_shard(number, Shard(images[rows], labels[rows], ids, split))
    build.finish()
    publish(build.dataset, [build.plan.key])
    return storage.open_dataset(folder)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:ROWS] * 15).astype(np.uint8).reshape(-1, 8, 8, 1), y[:ROWS].astype(np.int64)


@pytest.fixture(scope="module")
def dataset(digits, tmp_path_factory):
    return write(tmp_path_factory.mktemp("digits") / "clean", *digits)


@pytest.fixture(scope="module")
def arrays(digits):
    """Train and test as scikit-learn takes them."""
    images, labels = digits
    X = images.reshape(ROWS, -1).astype(np.float32) / 255
    return X[:700], labels[:700], X[700:], labels[700:]


def evaluate(method, dataset):
    return evaluate_method(method, dataset, {"clean": dataset}, Features(dataset))


@pytest.mark.parametrize(
    ("method", "reference"),
    [
        (methods.KNeighborsClassifier(5), ReferenceNeighbors(5)),
        (LogisticRegression(max_iter=300), LogisticRegression(max_iter=300)),
        (
            make_pipeline(ReferenceScaler(), ReferenceNeighbors(3)),
            make_pipeline(ReferenceScaler(), ReferenceNeighbors(3)),
        ),
        (
            make_pipeline(ReferenceScaler(), methods.KNeighborsClassifier(3)),
            make_pipeline(ReferenceScaler(), ReferenceNeighbors(3)),
        ),
    ],
    ids=["ours", "scikit-learn's", "scikit-learn's pipeline", "a pipeline of both"],
)
def test_evaluate_method__classification_agrees_with_scikit_learn(method, reference, dataset, arrays):
    X, y, Z, z = arrays
    predicted = reference.fit(X, y).predict(Z)
    result = evaluate(method, dataset)
    (score,) = result["scores"]
    assert result["task"] == "classification" and result["fit_rows"] == 700
    assert (score["measure"], score["rows"], score["split"]) == ("accuracy", 200, "test")
    assert score["value"] == pytest.approx(np.mean(predicted == z))
    assert score["extra"]["f1_macro"] == pytest.approx(f1_score(z, predicted, average="macro"))
    assert score["confusion"] == reference_confusion(z, predicted, labels=range(10)).tolist()


@pytest.mark.parametrize("mine", [True, False])
def test_evaluate_method__clustering_agrees_with_scikit_learn(mine, dataset, arrays):
    X, _, Z, z = arrays
    start = X[:10]
    reference = ReferenceKMeans(10, init=start, n_init=1).fit(X)
    method = methods.KMeans(10, init=start, n_init=1) if mine else ReferenceKMeans(10, init=start, n_init=1)
    (score,) = evaluate(method, dataset)["scores"]
    found = reference.predict(Z)
    assert score["measure"] == "ARI" and score["confusion"] is None
    assert score["value"] == pytest.approx(adjusted_rand_score(z, found))
    assert score["extra"]["NMI"] == pytest.approx(normalized_mutual_info_score(z, found))
    assert score["extra"]["silhouette"] == pytest.approx(silhouette_score(Z, found), abs=1e-4)


@pytest.mark.parametrize("kind", [methods.DBSCAN, ReferenceDBSCAN])
def test_evaluate_method__clusterer_without_predict_clusters_the_test_split(kind, dataset, arrays):
    Z, z = arrays[2:]
    found = ReferenceDBSCAN(eps=1.2, min_samples=4).fit_predict(Z)
    result = evaluate(kind(eps=1.2, min_samples=4), dataset)
    (score,) = result["scores"]
    assert result["fit_rows"] == 200
    assert score["value"] == pytest.approx(adjusted_rand_score(z, found))
    assert score["extra"]["noise_points"] == (found < 0).sum() > 0
    assert score["extra"]["clusters"] == found.max() + 1 > 1


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", [methods.PCA, ReferencePCA])
def test_evaluate_method__decomposition_keeps_the_share_that_scikit_learn_keeps(kind, scaled, dataset, arrays):
    X, _, Z, _ = arrays
    reference = make_pipeline(ReferenceScaler(), ReferencePCA(6)) if scaled else ReferencePCA(6)
    reference.fit(X)
    back = reference.inverse_transform(reference.transform(Z))
    method = make_pipeline(methods.StandardScaler() if kind is methods.PCA else ReferenceScaler(), kind(6))
    (score,) = evaluate(method if scaled else kind(6), dataset)["scores"]
    expected = 1 - ((Z - back) ** 2).sum() / ((Z - X.mean(axis=0)) ** 2).sum()
    assert (score["measure"], score["value"]) == ("explained variance", pytest.approx(expected, abs=1e-4))


def test_evaluate_method__without_labels(digits, tmp_path):
    unlabelled = write(tmp_path / "clean", digits[0], np.full(ROWS, -1))
    with pytest.raises(ValueError, match="expected labels for KNeighborsClassifier, received 700 rows without"):
        evaluate(methods.KNeighborsClassifier(5), unlabelled)
    (score,) = evaluate(methods.KMeans(4, random_state=0), unlabelled)["scores"]
    assert score["measure"] == "silhouette" and 0 < score["value"] < 1


def test_evaluate_method__one_class(digits, tmp_path):
    alike = write(tmp_path / "clean", digits[0], np.zeros(ROWS, np.int64))
    with pytest.raises(ValueError, match="expected at least two classes for LinearSVC, received 1"):
        evaluate(methods.LinearSVC(), alike)


def test_task_of__unknown():
    with pytest.raises(TypeError, match="a clusterer, a transformer with inverse_transform or an EmbeddingView"):
        task_of(LinearRegression())


def test_classification_score__class_that_never_occurs():
    true, predicted = np.array([0, 0, 2, 2]), np.array([0, 2, 2, 2])
    score = classification_score(true, predicted, 4)
    assert score["value"] == 0.75
    assert score["extra"]["f1_macro"] == pytest.approx(f1_score(true, predicted, average="macro"))
    assert np.array_equal(score["confusion"], reference_confusion(true, predicted, labels=range(4)))


def test_accuracy_and_confusion__empty():
    nothing = np.empty(0, np.int64)
    assert np.isnan(accuracy(nothing, nothing))
    assert confusion_matrix(nothing, nothing, 2).tolist() == [[0, 0], [0, 0]]


def test_psnr__known_values():
    black = np.zeros((3, 4, 4, 1), np.uint8)
    other = black.copy()
    other[0] += 1  # mean squared error 1
    other[1, :2] += 10  # half of the pixels: 50
    expected = [20 * np.log10(255), 10 * np.log10(255**2 / 50), 100.0]
    assert psnr(black, other) == pytest.approx(np.mean(expected))
    with pytest.raises(ValueError, match="images of one shape"):
        psnr(black, other[:2])


def test_evaluate_method__view_of_each_test_split(dataset, arrays):
    Z, z = arrays[2:]
    method = make_pipeline(methods.StandardScaler(), methods.EmbeddingView("pca", rows=150, random_state=4))
    result = evaluate(method, dataset)
    (score,) = result["scores"]
    assert (result["task"], score["measure"], score["rows"]) == ("view", "trustworthiness", 200)
    own = method.steps[-1][1]
    assert score["extra"]["rows_shown"] == len(score["extra"]["points"]) == 150
    assert [code for *_, code in score["extra"]["points"]] == z[own.rows_].tolist()
    assert score["value"] == pytest.approx(trustworthiness(Z[own.rows_], own.coordinates_), abs=1e-6)
    places = np.array(score["extra"]["points"])[:, :2]
    assert (places.min(axis=0) == 0).all() and (places.max(axis=0) == 100).all()
    for axis in range(2):
        assert np.corrcoef(places[:, axis], own.coordinates_[:, axis])[0, 1] > 0.9999


def test_evaluate_method__keeps_the_curve_that_a_radius_comes_from(dataset, arrays):
    method = make_pipeline(methods.PCA(8), methods.DBSCAN(eps="auto", min_samples=4))
    extra = evaluate(method, dataset)["scores"][0]["extra"]
    own = method.steps[-1][1]
    assert extra["eps"] == own.eps_ and extra["min_samples"] == 4
    np.testing.assert_allclose(extra["k_distances"], own.k_distances_, rtol=1e-4)
