"""The main job on the samples that duskflow ships: Fashion-MNIST images and film reviews.

Run it with ``duskflow run examples/samples.py``, or as a script.
"""

from __future__ import annotations

from sklearn.pipeline import make_pipeline

from pipeline import Pipeline, Robustness, connect
from tasks import methods, networks, noise, sources

images = Pipeline(
    name="images",
    source=sources.sample_images(),
    noise=[noise.Gaussian(severity=3), noise.SaltAndPepper(severity=2)],
    methods=[
        methods.KNeighborsClassifier(5),
        make_pipeline(methods.StandardScaler(), methods.LinearSVC(C=0.01)),
        methods.PCA(32),
        methods.KMeans(10),
        make_pipeline(methods.PCA(8), methods.DBSCAN(eps="auto")),
        methods.EmbeddingView("tsne"),
    ],
    networks=[networks.lenet5(), networks.denoising_autoencoder()],
    # How fast each classifier gets worse, with and without the denoiser; computed as data is read, nothing is stored.
    robustness=Robustness(
        [noise.Gaussian, noise.Shot, noise.GaussianBlur, noise.JpegCompression, noise.Rotate], severities=[1, 3, 5]
    ),
    seed=0,
)

reviews = Pipeline(
    name="reviews",
    source=sources.sample_texts(),
    noise=[noise.CharacterSwap(severity=3), noise.WordDrop(severity=3)],
    methods=[
        methods.KNeighborsClassifier(15),
        methods.LinearSVC(C=0.3),
        methods.PCA(32),
        methods.KMeans(2),
    ],
    networks=[networks.lstm_sentiment()],
    robustness=Robustness([noise.KeyboardTypo, noise.CharacterDrop, noise.WordMask], severities=[1, 3, 5]),
    seed=0,
)

if __name__ == "__main__":
    with connect("local") as client:
        for pipeline in (images, reviews):
            run = pipeline.run(root="runs", client=client)
            print(run.leaderboard())
            print(run.report)
