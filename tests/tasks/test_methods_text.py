"""Vectorizers of texts against scikit-learn's, whose own work lists are; so bags in any partitions, and datasets."""

from __future__ import annotations

import pickle
import sys

import dask
import dask.array as da
import dask.bag as db
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import issparse
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction import text as reference

from tasks import methods
from tasks.methods.text import counting, vectorizers
from tasks.methods.text.tokens import NltkTokens

WORDS = [
    "the",
    "a",
    "film",
    "Film",
    "plot",
    "actor",
    "good",
    "bad",
    "dull",
    "very",
    "Straße",
    "naïve",
    "日本",
    "don't",
    "end",
]


def corpus(count=300, seed=0):
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(WORDS) + 1)
    return [
        " ".join(random.choice(WORDS, random.integers(1, 30), p=weights / weights.sum())) + f" word{i % 90}."
        for i in range(count)
    ]


TEXTS = corpus()
CASES = [
    {},
    {"max_features": 20},
    {"min_df": 3, "max_df": 0.5},
    {"min_df": 0.02, "max_df": 200, "ngram_range": (1, 2), "max_features": 50},
    {"stop_words": "english", "lowercase": False, "binary": True, "max_features": 30},
    {"dtype": np.float32, "analyzer": "char_wb", "ngram_range": (2, 3)},
    {"vocabulary": ["film", "plot", "nowhere"]},
]
WEIGHTS = [{}, {"norm": "l1", "sublinear_tf": True}, {"norm": None, "smooth_idf": False}, {"use_idf": False}]


def as_reference(name, options, bag, texts=TEXTS):
    ours = getattr(vectorizers, name)(**options)
    theirs = getattr(reference, name)(**options)
    found, expected = ours.fit_transform(bag), theirs.fit_transform(texts)
    assert isinstance(found, da.Array)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    rows = found.compute(scheduler="threads")
    assert issparse(rows)
    # Norms are sums, whose order fit_transform and transform of scikit-learn do not share.
    tolerance = 1e-6 if rows.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(rows.toarray(), expected.toarray(), rtol=tolerance)
    if name != "HashingVectorizer":
        assert ours.vocabulary_ == theirs.vocabulary_
        assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())
    if hasattr(theirs, "idf_"):
        np.testing.assert_array_equal(ours.idf_, theirs.idf_)
        assert ours.idf_.dtype == theirs.idf_.dtype
    again = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(again.transform(texts[:5]).toarray(), theirs.transform(texts[:5]).toarray())
    return ours, theirs


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("name", ["CountVectorizer", "TfidfVectorizer"])
def test_fit__as_scikit_learn(name, options):
    for parts in (1, 13):
        as_reference(name, options, db.from_sequence(TEXTS, npartitions=parts))


@pytest.mark.parametrize("options", WEIGHTS)
def test_tfidf__weights_as_scikit_learn(options):
    ours, theirs = as_reference("TfidfVectorizer", options, db.from_sequence(TEXTS, npartitions=9))
    other = corpus(50, 7)
    found = ours.transform(db.from_sequence(other, npartitions=4)).compute(scheduler="threads")
    np.testing.assert_array_equal(found.toarray(), theirs.transform(other).toarray())
    assert issparse(ours.fit(other).transform(TEXTS))  # a list is scikit-learn's own work


@pytest.mark.parametrize("options", [{"n_features": 64}, {"n_features": 100, "norm": "l1", "alternate_sign": False}])
def test_hashing__as_scikit_learn(options):
    bag = db.from_sequence(TEXTS, npartitions=5).filter(lambda text: "word7" not in text)
    as_reference("HashingVectorizer", options, bag, [text for text in TEXTS if "word7" not in text])


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text("ab cB.", max_size=12), min_size=1, max_size=12),
    parts=st.integers(1, 6),
    features=st.none() | st.integers(1, 4),
    low=st.integers(1, 3),
)
def test_fit__any_small_texts(texts, parts, features, low):
    options = {"max_features": features, "min_df": low, "token_pattern": r"\w+"}
    bag = db.from_sequence(texts, npartitions=parts)
    with dask.config.set(scheduler="synchronous"):
        try:
            expected = reference.TfidfVectorizer(**options).fit_transform(texts)
        except ValueError as error:
            with pytest.raises(ValueError, match=str(error)[:20]):
                vectorizers.TfidfVectorizer(**options).fit(bag)
            return
        found = vectorizers.TfidfVectorizer(**options).fit_transform(bag).compute()
    np.testing.assert_allclose(found.toarray(), expected.toarray(), rtol=1e-13)


def test_transform__empty_partitions_and_methods_on_its_rows():
    labels = np.array(["good" in text for text in TEXTS])
    bag = db.concat([db.from_sequence(TEXTS[:100], 1).filter(lambda text: False), db.from_sequence(TEXTS, 40)])
    rows = vectorizers.TfidfVectorizer(min_df=2).fit_transform(bag)
    assert 0 in rows.chunks[0]
    plain = reference.TfidfVectorizer(min_df=2).fit_transform(TEXTS)
    for model in (methods.MultinomialNB(), methods.LogisticRegression()):
        found = model.fit(rows, labels).predict(rows).compute()
        np.testing.assert_array_equal(found, type(model)().fit(plain, labels).predict(plain))


def test_transform__of_a_fitted_vectorizer_is_lazy_but_for_the_lengths():
    fitted = vectorizers.TfidfVectorizer().fit(TEXTS)
    read = []

    def noted(text):
        read.append(text)
        return text

    rows = fitted.transform(db.from_sequence(TEXTS[:20], npartitions=2).map(noted))
    assert rows.chunks[0] == (10, 10)
    assert len(read) == 20
    rows.compute(scheduler="threads")
    assert len(read) == 40


def test_count__tables_that_get_too_large_are_cut(monkeypatch):
    """The bound holds, and frequent terms survive."""
    monkeypatch.setattr(counting, "TABLE_TERMS", 40)
    bag = db.from_sequence(TEXTS, npartitions=6)
    with pytest.warns(UserWarning, match="more than 40 terms.*too low by"):
        ours = vectorizers.CountVectorizer().fit(bag)
    assert len(ours.vocabulary_) <= 40
    assert {"the", "film", "plot"} <= ours.vocabulary_.keys()
    whole = counting.count_terms(TEXTS, ours.__class__(), True, 10_000)
    parts = [counting.count_terms(TEXTS[i : i + 50], ours.__class__(), True, 40) for i in range(0, 300, 50)]
    table = parts[0]
    for part in parts[1:]:
        table = counting.Merge(40)(table, part)
    assert 0 < table.missed < 300
    for term, count in whole.frequency.items():
        assert 0 <= count - table.frequency[term] <= table.missed


def test_fit__on_a_cluster():
    from distributed import Client

    bag = db.from_sequence(TEXTS, npartitions=5)
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"):
        found = vectorizers.TfidfVectorizer(max_features=30).fit_transform(bag).compute()
    expected = reference.TfidfVectorizer(max_features=30).fit_transform(TEXTS)
    np.testing.assert_allclose(found.toarray(), expected.toarray(), rtol=1e-13)


def test_fit__refuses():
    bag = db.from_sequence(TEXTS, npartitions=3)
    with pytest.raises(ValueError, match="no terms remain"):
        vectorizers.CountVectorizer(min_df=1000, max_df=2000).fit(bag)
    with pytest.raises(ValueError, match="max_df corresponds to < documents than min_df"):
        vectorizers.CountVectorizer(min_df=20, max_df=2).fit(bag)
    with pytest.raises(ValueError, match="empty vocabulary"):
        vectorizers.CountVectorizer(stop_words=["a"], token_pattern="a").fit(bag)
    with pytest.raises(ValueError, match="ngram_range with the lower bound first"):
        vectorizers.CountVectorizer(ngram_range=(2, 1)).fit(bag)
    with pytest.raises(TypeError, match=r"expected a dask.bag of str, received a Dask Array"):
        vectorizers.CountVectorizer().fit(da.ones((3, 3)))
    with pytest.raises(ValueError, match="string object received"):
        vectorizers.CountVectorizer().fit("some text")


@pytest.mark.parametrize("tokenizer", ["wordpunct", "toktok", "treebank"])
@pytest.mark.parametrize("stemmer", [None, "porter", "english", "german"])
def test_tokens__are_nltks(tokenizer, stemmer):
    nltk = pytest.importorskip("nltk")
    from nltk.stem import PorterStemmer, SnowballStemmer

    rule = {"wordpunct": "WordPunctTokenizer", "toktok": "ToktokTokenizer", "treebank": "TreebankWordTokenizer"}
    words = getattr(nltk.tokenize, rule[tokenizer])().tokenize("The actors weren't acting; good scenes.")
    if stemmer:
        own = PorterStemmer() if stemmer == "porter" else SnowballStemmer(stemmer)
        words = [own.stem(word) for word in words]
    tokens = NltkTokens(tokenizer, stemmer)
    assert tokens("The actors weren't acting; good scenes.") == words
    options = {"tokenizer": tokens, "token_pattern": None}
    as_reference("TfidfVectorizer", options, db.from_sequence(TEXTS[:40], npartitions=3), TEXTS[:40])


def test_tokens__refuse(monkeypatch):
    with pytest.raises(ValueError, match="expected tokenizer as one of toktok, treebank, wordpunct, received 'punkt'"):
        NltkTokens("punkt")
    for name in [name for name in sys.modules if name.split(".")[0] == "nltk"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(ImportError, match=r'pip install "duskflow\[text\]"'):
        NltkTokens("treebank", "porter-missing")("a text")


def test_tokens__refuse_an_unknown_stemmer():
    pytest.importorskip("nltk")
    with pytest.raises(ValueError, match=r"expected stemmer as one of porter, .*english.*received 'klingon'"):
        NltkTokens(stemmer="klingon")("a text")


EVERY = ["CountVectorizer", "TfidfVectorizer", "HashingVectorizer"]


@pytest.mark.parametrize("name", EVERY)
def test_no_texts__are_refused_by_fit_and_have_no_rows(name):
    ours = getattr(vectorizers, name)()
    for nothing in ([], (), iter([]), np.array([], dtype=object), db.from_sequence([[]]).flatten()):
        if name == "HashingVectorizer":
            found = ours.fit(nothing).transform(nothing)
        else:
            for word in ("fit", "fit_transform"):
                with pytest.raises(ValueError, match="empty vocabulary"):
                    getattr(getattr(vectorizers, name)(), word)(nothing)
            found = ours.fit(TEXTS).transform(nothing)
        assert found.shape == (0, ours.transform(TEXTS).shape[1])
        assert found.dtype == ours.transform(TEXTS).dtype
    if name == "HashingVectorizer":
        assert ours.fit_transform([]).shape == (0, 2**20)
    else:
        with pytest.raises(NotFittedError):
            getattr(vectorizers, name)().transform([])
    given = vectorizers.CountVectorizer(vocabulary=["film", "plot"])
    assert given.transform([]).shape == (0, 2)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_no_text__is_refused_by_name_and_place(name, lazy):
    texts = ["a film", "a plot", 7]
    given = db.from_sequence(texts, npartitions=1) if lazy else texts
    message = "expected texts as str, received int as text number 2.*'7'"

    def rows(word):
        ours = getattr(vectorizers, name)()
        return ours.fit(TEXTS).transform(given) if word == "transform" else getattr(ours, word)(given)

    for word in ("fit", "fit_transform", "transform"):
        if (name, word) == ("HashingVectorizer", "fit"):
            continue  # it looks at no text
        with dask.config.set(scheduler="synchronous"), pytest.raises(TypeError, match=message):
            rows(word).compute()


@pytest.mark.parametrize("name", EVERY)
def test_what_is_no_text__is_the_users_own_affair_with_own_functions(name):
    kind = {"CountVectorizer": {}, "TfidfVectorizer": {}, "HashingVectorizer": {"n_features": 64}}[name]
    tokens = [["a", "b", "a"], ["b", "c"]]
    for options in (
        {"analyzer": list},
        {"tokenizer": list, "lowercase": False, "token_pattern": None},
        {"preprocessor": list, "tokenizer": list, "token_pattern": None},
    ):
        found = getattr(vectorizers, name)(**kind, **options).fit_transform(tokens)
        expected = getattr(reference, name)(**kind, **options).fit_transform(tokens)
        np.testing.assert_array_equal(found.toarray(), expected.toarray())
    bytes_ = [text.encode() for text in TEXTS]
    found = getattr(vectorizers, name)(**kind).fit_transform(iter(bytes_))
    np.testing.assert_array_equal(found.toarray(), getattr(reference, name)(**kind).fit_transform(TEXTS).toarray())
    for wrong, error in (("a film", ValueError), (None, TypeError), ([np.nan], ValueError)):
        with pytest.raises(error):
            getattr(vectorizers, name)(**kind).fit_transform(wrong)
