"""Recurrent classifiers of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar

from tasks.networks.backend import Seeds, load_keras
from tasks.networks.protocol import FitSettings, check_count, check_number, class_count

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, repr=False)
class lstm_sentiment(FitSettings):
    """An LSTM that reads a text word by word: embedding, LSTM, pooling over time, softmax.

    The mean and the maximum of the LSTM's outputs are both passed on: gradients reach every word at once, and it
    learns in far fewer steps than from the last output.

    Parameters
    ----------
    vocabulary : int
        Token codes: padding, unknown, and the most frequent words of the training split.
    length : int
        Tokens per text; of longer texts the last ones are read.
    embedding : int
        Size of a word's vector.
    units : int
        Size of the LSTM's state.
    dropout : float
        Share of the embedding's channels (whole channels over time) and of the pooled features that a training step
        leaves out.
    epochs, batch_size, learning_rate, schedule, patience
        See `tasks.networks.protocol.FitSettings`.

    References
    ----------
    Hochreiter and Schmidhuber (1997), Long short-term memory.
    """

    kind: ClassVar[str] = "texts"
    task: ClassVar[str] = "classification"
    _: KW_ONLY
    vocabulary: int = 20_000
    length: int = 256
    embedding: int = 64
    units: int = 32
    dropout: float = 0.4
    epochs: int = 4
    batch_size: int = 32
    learning_rate: float = 2e-3
    patience: int | None = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self, "vocabulary", least=3)
        for name in ("length", "embedding", "units"):
            check_count(self, name)
        check_number(self, "dropout", most=0.99)

    def build(
        self, input_shape: Sequence[int] | None = None, classes: int | Sequence[str] = 2, *, seed: int = 0
    ) -> keras.Model:
        """Build and compile the model.

        Parameters
        ----------
        input_shape : tuple of int, optional
            ``(length,)``, which is what it is without.
        classes : int
            Number of classes.
        seed : int
            Of the initial weights and of dropout.

        Returns
        -------
        keras.Model
            From int32 tokens (n, length), see `tasks.networks.Vocabulary`, to probabilities (n, classes).
        """
        if input_shape is not None and tuple(input_shape) != (self.length,):
            raise ValueError(
                f"expected an input_shape of ({self.length},) for {self}, received {tuple(input_shape)}; set length"
            )
        count = class_count(self, classes)
        keras, seeds = load_keras(), Seeds(seed)
        layers, initializers = keras.layers, keras.initializers
        tokens = keras.Input((self.length,), dtype="int32", name="tokens")
        start = initializers.RandomUniform(-0.05, 0.05, seed=seeds("embedding"))
        x = layers.Embedding(self.vocabulary, self.embedding, embeddings_initializer=start, name="embedding")(tokens)
        x = layers.SpatialDropout1D(self.dropout, seed=seeds("dropout1"), name="dropout1")(x)
        x = layers.LSTM(
            self.units,
            return_sequences=True,
            kernel_initializer=seeds.glorot("lstm"),
            recurrent_initializer=initializers.Orthogonal(seed=seeds("lstm/recurrent")),
            seed=seeds("lstm/dropout"),
            name="lstm",
        )(x)
        pooled = [layers.GlobalMaxPooling1D(name="max")(x), layers.GlobalAveragePooling1D(name="mean")(x)]
        x = layers.Concatenate(name="pooled")(pooled)
        x = layers.Dropout(self.dropout, seed=seeds("dropout2"), name="dropout2")(x)
        output = layers.Dense(count, activation="softmax", kernel_initializer=seeds.glorot("output"), name="output")(x)
        model = keras.Model(tokens, output, name="lstm_sentiment")
        model.compile(
            keras.optimizers.Adam(self.learning_rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        return model
