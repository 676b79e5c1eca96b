"""Networks: Keras models with their fit settings, described first and built where they are trained.

``import tasks.networks`` needs no Keras; `build` does.
"""

from __future__ import annotations

from tasks.networks.autoencoders import denoising_autoencoder
from tasks.networks.convolutional import lenet5
from tasks.networks.protocol import Network
from tasks.networks.recurrent import lstm_sentiment
from tasks.networks.vocabulary import Vocabulary

__all__ = ["Network", "Vocabulary", "denoising_autoencoder", "lenet5", "lstm_sentiment"]
