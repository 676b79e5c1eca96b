"""Networks: Keras models with their fit settings, described first and built where they are trained.

``import tasks.networks`` needs no Keras; `build` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.networks.autoencoders import denoising_autoencoder
from tasks.networks.convolutional import lenet5
from tasks.networks.protocol import Network
from tasks.networks.recurrent import lstm_sentiment
from tasks.networks.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tasks.networks.estimator import NetworkClassifier

__all__ = ["Network", "NetworkClassifier", "Vocabulary", "denoising_autoencoder", "lenet5", "lstm_sentiment"]


def __getattr__(name: str) -> Any:
    # With scikit-learn, which describing a network does not need.
    if name == "NetworkClassifier":
        from tasks.networks.estimator import NetworkClassifier

        return NetworkClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
