"""Random numbers by address: a pure function of (seed, purpose, epoch, id, word), never of a sequence.

A drawn sequence changes when the chunks change. Here every sample owns its own numbers, found by its permanent id,
so a sample gets the same noise in any shard, on any worker, in any order, at any retry.

The generator is SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators",
OOPSLA), evaluated at a counter instead of stepped: word ``j`` of a sample is ``mix(base + (j + 1) * gamma)``, with
``base`` a keyed hash of the sample's id. It was chosen over Philox after a measurement: numpy's Philox needs a seek
per sample, because ids in a shuffled shard are not consecutive, whereas the whole block is one vectorised expression
here, about five times as fast for samples of 784 pixels. See ``benchmarks/keyed.py``.
"""

from __future__ import annotations

import hashlib
import operator

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_BLOCK_WORDS = 32_768  # 256 KiB: the block and its scratch copy stay in the second-level cache


def key_of(*parts: int | str) -> int:
    """Hash an address such as ``(seed, "gaussian", epoch)`` to 64 bits.

    Parameters
    ----------
    *parts : int or str
        The parts of the address. ``1`` and ``"1"`` differ, and so do ``("ab",)`` and ``("a", "b")``.

    Returns
    -------
    int
        An unsigned 64-bit key, the same on every machine and version.

    Raises
    ------
    TypeError
        If a part is neither a whole number nor a string.
    """
    digest = hashlib.blake2b(repr(tuple(map(_plain, parts))).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _plain(part: int | str) -> int | str:
    """A part as Python's own int or str: ``numpy.int64(7)`` prints otherwise than 7, yet is the same address."""
    if isinstance(part, str):
        return str(part)
    try:
        return operator.index(part)
    except TypeError:
        raise TypeError(
            f"expected whole numbers (a seed, an epoch) or strings as an address, received {part!r}"
        ) from None


def _mix(words: np.ndarray, scratch: np.ndarray) -> None:
    """Apply SplitMix64's finaliser in place (Stafford's variant 13 of the MurmurHash3 finaliser)."""
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        np.right_shift(words, np.uint64(shift), out=scratch)
        np.bitwise_xor(words, scratch, out=words)
        np.multiply(words, factor, out=words)
    np.right_shift(words, np.uint64(31), out=scratch)
    np.bitwise_xor(words, scratch, out=words)


def bases(key: int, ids: np.ndarray) -> np.ndarray:
    """Give every id its own starting point.

    Parameters
    ----------
    key : int
        From `key_of`.
    ids : ndarray of int64, shape (n,)
        Permanent sample ids.

    Returns
    -------
    ndarray of uint64, shape (n,)
    """
    words = np.asarray(ids).astype(np.uint64, copy=True)
    np.multiply(words, _GAMMA, out=words)
    np.add(words, np.uint64(key), out=words)
    scratch = np.empty_like(words)
    _mix(words, scratch)
    # A second keyed round: without it two keys that differ by a multiple of gamma would share whole sequences.
    np.bitwise_xor(words, np.uint64(key_of(key, "second round")), out=words)
    _mix(words, scratch)
    return words


def sorting_words(key: int, ids: np.ndarray) -> np.ndarray:
    """A word for each id, to sort by: one round of the mix instead of two.

    Enough where a key is a hash and only the order of the words counts. Distinct ids have distinct words, because every
    step of the mix can be undone.

    Parameters
    ----------
    key : int
        From `key_of`.
    ids : ndarray of int64, shape (n,)

    Returns
    -------
    ndarray of uint64, shape (n,)
    """
    words = ids.astype(np.uint64)
    scratch = np.empty(min(_BLOCK_WORDS, len(words)), np.uint64)
    for low in range(0, len(words), _BLOCK_WORDS):
        block = words[low : low + _BLOCK_WORDS]
        np.multiply(block, _GAMMA, out=block)
        np.add(block, np.uint64(key), out=block)
        _mix(block, scratch[: len(block)])
    return words


def words(key: int, ids: np.ndarray, count: int, start: int = 0) -> np.ndarray:
    """Draw `count` 64-bit words for each id, from word `start` on.

    Parameters
    ----------
    key : int
        From `key_of`.
    ids : ndarray of int64, shape (n,)
    count : int
        Words per sample.
    start : int
        Words of each sample that are left out before the first.

    Returns
    -------
    ndarray of uint64, shape (n, count)
        Little-endian in memory on every supported machine, so that `.view(numpy.uint16)` gives the same lanes.
    """
    first = bases(key, ids)
    out = np.empty((len(first), count), np.uint64)
    steps = np.arange(start + 1, start + count + 1, dtype=np.uint64) * _GAMMA
    rows = max(1, _BLOCK_WORDS // max(count, 1))
    scratch = np.empty((min(rows, max(len(first), 1)), count), np.uint64)
    for low in range(0, len(first), rows):
        block = out[low : low + rows]
        np.add(first[low : low + rows, None], steps, out=block)
        _mix(block, scratch[: len(block)])
    return out.astype("<u8", copy=False)


def uniforms(key: int, ids: np.ndarray, count: int) -> np.ndarray:
    """Draw `count` uniform numbers in [0, 1) for each id, with 53 random bits.

    Parameters
    ----------
    key : int
        From `key_of`.
    ids : ndarray of int64, shape (n,)
    count : int

    Returns
    -------
    ndarray of float64, shape (n, count)
    """
    return (words(key, ids, count) >> np.uint64(11)) * 2.0**-53


def lanes(key: int, ids: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Draw 16 random bits for each unit of samples of different lengths, laid one sample after the other.

    Parameters
    ----------
    key : int
        From `key_of`.
    ids : ndarray of int64, shape (n,)
    counts : ndarray of int64, shape (n,)
        Units of each sample.

    Returns
    -------
    ndarray of uint16, shape (counts.sum(),)
        Those of sample i are ``words(key, ids[i : i + 1], ceil(counts[i] / 4)).view(numpy.uint16)[0, : counts[i]]``.
    """
    counts = np.asarray(counts, np.int64)
    held = (counts + 3) // 4
    stops = np.cumsum(held)
    # As if one counter ran through all samples: each starts as far before its own base as its words lie behind the
    # first one.
    start = bases(key, ids) - (stops - held).astype(np.uint64) * _GAMMA
    drawn = np.repeat(start, held)
    scratch = np.empty(min(_BLOCK_WORDS, len(drawn)), np.uint64)
    for low in range(0, len(drawn), _BLOCK_WORDS):
        block = drawn[low : low + _BLOCK_WORDS]
        block += np.arange(low + 1, low + len(block) + 1, dtype=np.uint64) * _GAMMA
        _mix(block, scratch[: len(block)])
    out = drawn.astype("<u8", copy=False).view(np.uint16)
    spare = 4 * held - counts
    if not spare.any():
        return out
    kept = np.ones(len(out), bool)
    for k in (1, 2, 3):
        kept[4 * stops[spare >= k] - k] = False
    return out[kept]


def words_at(key: int, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Draw single words: ``words(key, ids[k : k + 1], places[k] + 1)[0, places[k]]`` for each k.

    Parameters
    ----------
    key : int
        From `key_of`.
    ids : ndarray of int64, shape (m,)
        Any order, with repetitions.
    places : ndarray of int64, shape (m,)

    Returns
    -------
    ndarray of uint64, shape (m,)
    """
    drawn = bases(key, ids)
    drawn += (np.asarray(places).astype(np.uint64) + np.uint64(1)) * _GAMMA
    _mix(drawn, np.empty_like(drawn))
    return drawn


def order(key: int, ids: np.ndarray) -> np.ndarray:
    """Shuffle ids: the permutation that sorts them by their own random word.

    Each id's place depends on its own word only, so the relative order of two samples never changes when others
    are added or removed.

    Parameters
    ----------
    key : int
        From `key_of`.
    ids : ndarray of int64, shape (n,)

    Returns
    -------
    ndarray of int64, shape (n,)
        Positions into `ids`.
    """
    return np.argsort(bases(key, ids), kind="stable")
