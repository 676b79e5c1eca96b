"""Train, validation and test: decided once, at ingest, by sample id, and shared by every noisy copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storage.keyed import key_of, order, uniforms

TRAIN, VALIDATION, TEST = 0, 1, 2


@dataclass(frozen=True)
class Split:
    """Shares of the samples that are held out.

    Samples are drawn within each class by their own random word, so a sample keeps its split as long as its class
    keeps its members. A split that the source brings (Fashion-MNIST's 10,000 test images) is kept; only what it
    lacks is drawn from its training rows.

    Parameters
    ----------
    validation : float
        Share of the samples left after the test split, 0 to less than 1.
    test : float
        Share of all samples, 0 to less than 1; unused if the source brings a test split.
    """

    validation: float = 0.05
    test: float = 0.15

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise ValueError(f"expected a {name} share of at least 0 and below 1, received {value!r}")

    def assign(self, own: np.ndarray | None, labels: np.ndarray, seed: int) -> np.ndarray:
        """Give every sample its split.

        Parameters
        ----------
        own : ndarray of uint8 (n,), or None
            The source's split codes.
        labels : ndarray of int64, shape (n,)
        seed : int

        Returns
        -------
        ndarray of uint8, shape (n,)
            0 train, 1 validation, 2 test.

        Raises
        ------
        ValueError
            If no sample would be left for training, or `own` holds other codes than 0, 1 and 2.
        """
        own = np.zeros(len(labels), np.uint8) if own is None else np.asarray(own)
        if own.shape != labels.shape or not np.isin(own, (TRAIN, VALIDATION, TEST)).all():
            raise ValueError(
                f"expected a split of 0 (train), 1 (validation) or 2 (test) for each of {len(labels)} samples, "
                f"received {own.dtype} of shape {own.shape} with {np.unique(own)[:5].tolist()}"
            )
        codes = own.astype(np.uint8)
        if not (codes == TEST).any():
            _hold_out(codes, labels, self.test, TEST, key_of(seed, "test split"))
        if not (codes == VALIDATION).any():
            _hold_out(codes, labels, self.validation, VALIDATION, key_of(seed, "validation split"))
        if not (codes == TRAIN).any():
            raise ValueError(
                f"expected samples left for training, received {len(codes)} samples of which none is; hold out less"
            )
        return codes

    def assign_more(self, own: np.ndarray | None, positions: np.ndarray, ids: np.ndarray, seed: int) -> np.ndarray:
        """Give samples that are appended their splits, each by its own id: no other sample has a say.

        Parameters
        ----------
        own : ndarray of uint8, or None
            The split codes of the whole source.
        positions : ndarray of int64, shape (n,)
            Which samples of the source are appended.
        ids : ndarray of int64, shape (n,)
        seed : int

        Returns
        -------
        ndarray of uint8, shape (n,)
            The shares hold on average, over all appends together.
        """
        whole = np.zeros(1, np.uint8) if own is None else np.asarray(own)
        codes = np.zeros(len(positions), np.uint8) if own is None else whole[positions].astype(np.uint8)
        for code, share in ((TEST, self.test), (VALIDATION, self.validation)):
            if not (whole == code).any():
                drawn = uniforms(key_of(seed, "appended split", code), ids, 1)[:, 0] < share
                codes[drawn & (codes == TRAIN)] = code
        return codes


def _hold_out(codes: np.ndarray, labels: np.ndarray, share: float, code: int, key: int) -> None:
    """Move a share of the training rows of each class to another split, in place."""
    for label in np.unique(labels[codes == TRAIN]):
        rows = np.flatnonzero((labels == label) & (codes == TRAIN))
        # At least one stays in training, however small the class.
        count = min(round(len(rows) * share), len(rows) - 1)
        codes[rows[order(key, rows)[:count]]] = code


def arrange(codes: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, tuple[int, int]]]:
    """Order the samples for storage: by split, shuffled within each, so that every shard is a fair draw.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n,)
    seed : int

    Returns
    -------
    ids : ndarray of int64, shape (n,)
        The sample id of every row.
    splits : dict
        First and past-the-last row of every split that has rows.
    """
    pieces, splits, start = [], {}, 0
    for code, name in enumerate(("train", "validation", "test")):
        ids = np.flatnonzero(codes == code)
        if len(ids):
            pieces.append(ids[order(key_of(seed, "storage order"), ids)])
            splits[name] = (start, start + len(ids))
            start += len(ids)
    return np.concatenate(pieces), splits
