"""Texts as batches of tokens: every text once, with its own tokens, whatever is done to the order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import storage
from storage.feeding.order import EpochOrder
from storage.feeding.sequences import BucketedOrder

COUNT = 500
WORDS = [int(x) for x in np.random.default_rng(0).exponential(12, COUNT)]
TEXTS = [" ".join(f"w{(row * 7 + place) % 50}" for place in range(words)) for row, words in enumerate(WORDS)]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory, builds_at, commit):
    return commit(builds_at["texts"](tmp_path_factory.mktemp("reviews") / "reviews", TEXTS, 29))


def words(texts) -> list[list[int]]:
    return [[int(word[1:]) + 1 for word in text.split()] for text in texts]


def characters(texts) -> list[list[int]]:
    return [[byte + 1 for byte in text.encode()] for text in texts]


class Longer:
    """A noise that lengthens texts, by other words in each epoch."""

    kind = "texts"

    def __call__(self, texts, ids, *, seed=0, epoch=0):
        added = [(int(number) + epoch) % 3 for number in ids]
        return [f"{text}{' w7' * count}" for text, count in zip(texts, added, strict=True)]

    def __str__(self):
        return "Longer()"


cases = st.fixed_dictionaries(
    {
        "batch_size": st.sampled_from([2, 8, 24]),
        "seed": st.integers(0, 2),
        "window": st.sampled_from([2000, 6000, 10**8]),
        "streams": st.sampled_from([1, 2, 8]),
        "noise": st.sampled_from([None, Longer()]),
        "sequences": st.builds(
            storage.Sequences,
            st.sampled_from([None, words]),
            length=st.sampled_from([5, 16, 40]),
            batching=st.sampled_from(["pad", "bucket", "pack"]),
            keep=st.sampled_from(["head", "tail"]),
            padding=st.sampled_from(["after", "before"]),
            pool=st.sampled_from([1, 3, 50]),
            step=st.just(4),
        ),
    }
)


def tokens_of(batch, case, epoch) -> list[list[int]]:
    """What the texts of a batch are as tokens, made without the feed."""
    texts = [TEXTS[row] for row in batch["rows"]]
    if case["noise"]:
        texts = case["noise"](texts, batch["ids"], epoch=epoch)
    sequences = case["sequences"]
    found = (sequences.encode or characters)(texts)
    return [one[: sequences.length] if sequences.keep == "head" else one[-sequences.length :] for one in found]


def check_batch(batch, case, epoch) -> None:
    tokens, values, sequences = tokens_of(batch, case, epoch), batch["values"], case["sequences"]
    if sequences.batching == "pack":
        edges = batch["edges"]
        assert values.shape[1] == sequences.length and edges[-1] == len(tokens)
        for row, (low, high) in enumerate(itertools.pairwise(edges)):
            flat = [token for one in tokens[low:high] for token in one]
            assert values[row].tolist() == flat + [0] * (sequences.length - len(flat))
            segments = [number + 1 for number, one in enumerate(tokens[low:high]) for _ in one]
            assert batch["segments"][row][: len(flat)].tolist() == segments
            assert not batch["segments"][row][len(flat) :].any()
        return
    assert batch["lengths"].tolist() == [len(one) for one in tokens]
    longest, width = max(map(len, tokens), default=0), values.shape[1]
    assert width == sequences.length if sequences.batching == "pad" else longest <= width <= sequences.length
    for row, one in zip(values.tolist(), tokens, strict=True):
        padding = [0] * (width - len(one))
        assert row == (one + padding if sequences.padding == "after" else padding + one)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(cases, st.sampled_from([0, 2]), st.booleans(), st.integers(0, 2), st.integers(0, 30))
def test_batches__of_sequences_hold_every_text_once(reviews, case, threads, tight, epoch, resumed):
    memory = 120_000 if tight and case["window"] < 10**8 and case["sequences"].batching != "pack" else None
    feed = storage.batches(reviews, **case, threads=threads, memory=memory)
    next(feed)
    feed.set_epoch(epoch)
    found = list(feed)
    assert len(found) == len(feed)
    for number, batch in enumerate(found):
        check_batch(batch, case, epoch)
        np.testing.assert_array_equal(batch["labels"], reviews.labels()[batch["rows"]])
        for name, (shape, dtype) in feed.signature.items():
            assert batch[name].dtype == dtype
            assert all(one in (None, other) for one, other in zip(shape, batch[name].shape, strict=True))
        assert batch.keys() == feed.signature.keys()
        for name, column in feed[number].items():
            np.testing.assert_array_equal(batch[name], column)
    rows = np.concatenate([batch["rows"] for batch in found])
    np.testing.assert_array_equal(np.sort(rows), np.arange(reviews.rows("train").stop))
    # Another feed, at another place, goes on from the state.
    resumed = min(resumed, len(found))
    other = storage.batches(reviews, **case)
    other.load_state_dict(feed.state_dict(step=resumed))
    rest = list(other)
    assert [batch["values"].tolist() for batch in rest] == [batch["values"].tolist() for batch in found[resumed:]]
    feed.close()
    other.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(cases, st.sampled_from([2, 4]))
def test_batches__of_sequences_on_ranks_are_parts_of_those_of_one(reviews, case, ranks):
    case |= {"batch_size": 8, "drop_last": True}
    whole = list(storage.batches(reviews, **case))
    parts = [list(storage.batches(reviews, **case, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert {len(part) for part in parts} == {len(whole)}
    for number, batch in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[number]["rows"] for part in parts]), batch["rows"])
        assert {len(part[number]["values"]) for part in parts} == {8 // ranks}


def padding_share(feed) -> float:
    found = list(feed)
    tokens = sum(int((batch["values"] != 0).sum()) for batch in found)
    return 1 - tokens / sum(batch["values"].size for batch in found)


def test_batches__of_buckets_and_packed_rows_hold_little_padding(reviews):
    def feed(batching, **options):
        return storage.batches(reviews, 16, sequences=storage.Sequences(words, length=64, batching=batching, **options))

    padded, bucket, pack = (padding_share(feed(batching)) for batching in ("pad", "bucket", "pack"))
    assert padded > 0.7
    assert bucket < 0.5  # texts of 12 words in widths of 16, 32, ...
    assert padding_share(feed("bucket", step=1)) < 0.3  # a pool of 350 texts, and a last batch that is not sorted
    assert pack < 0.03


def test_bucketed_order__ranks_do_not_differ_in_length():
    """A batch is not sorted inside: the first rank does not get the short texts of every batch."""
    edges = np.arange(0, 2001, 100)
    order = EpochOrder(edges, 40, seed=0, epoch=0, version="v")
    lengths = np.random.default_rng(0).integers(0, 400, 2000)
    made = BucketedOrder(order, lengths, 0, 10, seed=0, epoch=0)
    halves = [lengths[made.rows(0, order.whole, rank, 2)].mean() for rank in range(2)]
    assert abs(halves[0] - halves[1]) < 4


def test_load_state_dict__refuses_a_state_of_other_lengths(reviews):
    state = storage.batches(reviews, 8, sequences=storage.Sequences(words)).state_dict()
    for other in (storage.Sequences(characters), storage.Sequences(words, length=64), storage.Sequences(words, pool=7)):
        with pytest.raises(ValueError, match="expected a state of this dataset and these parameters"):
            storage.batches(reviews, 8, sequences=other).load_state_dict(state)


def test_batches__of_packed_texts_need_them_in_memory(reviews):
    with pytest.raises(
        ValueError, match=r"expected memory of at least .* to pack 350 samples as a whole, received 100"
    ):
        storage.batches(reviews, 8, window=500, memory=100, sequences=storage.Sequences(batching="pack"))


def test_batches__of_packed_rows_on_ranks_leave_out_the_last(reviews):
    with pytest.raises(ValueError, match="expected drop_last=True for packed rows on several ranks"):
        storage.batches(reviews, 8, ranks=2, sequences=storage.Sequences(batching="pack"))


@pytest.mark.parametrize("batching", ["bucket", "pack"])
def test_batches__in_storage_order_are_not_arranged_by_length(reviews, batching):
    with pytest.raises(ValueError, match=f"expected batching='pad' for texts in storage order, received '{batching}'"):
        storage.batches(reviews, 8, shuffle=False, sequences=storage.Sequences(batching=batching))


def test_batches__of_sequences_have_no_targets(reviews):
    with pytest.raises(ValueError, match="expected sequences without targets, received both"):
        storage.batches(reviews, 8, targets=reviews, sequences=storage.Sequences())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "expected length of at least 1, received 0"),
        ({"pool": 0}, "expected pool of at least 1, received 0"),
        ({"step": 1.5}, "expected step of at least 1, received 1.5"),
        ({"batching": "heap"}, r"expected one of \['bucket', 'pad', 'pack'\], received 'heap'"),
        ({"keep": "middle"}, r"expected one of \['head', 'tail'\], received 'middle'"),
        ({"padding": "left"}, r"expected one of \['after', 'before'\], received 'left'"),
        ({"encode": "utf-8"}, "expected encode as a function of a list of texts, received 'utf-8'"),
    ],
)
def test_sequences__refuse_what_means_nothing(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        storage.Sequences(**options)


@pytest.mark.parametrize(
    "encode",
    [
        lambda texts: words(texts)[:-1],
        lambda texts: [[0.5] for _ in texts],
        lambda texts: (np.zeros(3, np.int32), np.array([0, 3])),
        lambda texts: (np.zeros(len(texts), np.int64) + 2**40, np.arange(len(texts) + 1)),
        lambda texts: [[2**40] for _ in texts],
    ],
)
def test_sequences__refuse_an_encoder_that_gives_no_tokens(reviews, encode):
    with pytest.raises(ValueError, match="expected"):
        next(storage.batches(reviews, 8, sequences=storage.Sequences(encode, batching="pad")))
