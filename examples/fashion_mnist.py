"""Full Fashion-MNIST: 60,000 + 10,000 images. ``duskflow run examples/fashion_mnist.py``

The data is looked for in ``$DUSKFLOW_DATA``, in Debian's package dataset-fashion-mnist and in the cache, then
downloaded.
"""

from __future__ import annotations

from sklearn.pipeline import make_pipeline

from pipeline import Pipeline, connect
from tasks import methods, networks, noise, sources

fashion = Pipeline(
    name="fashion",
    source=sources.fashion_mnist(),
    noise=[noise.Gaussian(severity=3), noise.SaltAndPepper(severity=2)],
    methods=[
        methods.KNeighborsClassifier(5),
        make_pipeline(methods.StandardScaler(), methods.LinearSVC(C=0.01)),
        methods.PCA(32),
        methods.KMeans(10),
        make_pipeline(methods.PCA(8), methods.DBSCAN(eps="auto")),
    ],
    networks=[networks.lenet5(), networks.denoising_autoencoder()],
    seed=0,
)

if __name__ == "__main__":
    with connect("local") as client:
        run = fashion.run(root="runs", client=client)
    print(run.leaderboard())
    print(run.report)
