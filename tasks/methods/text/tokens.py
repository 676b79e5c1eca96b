"""Words by NLTK's rules, for the parameter `tokenizer` of the vectorizers; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

TOKENIZERS = {"toktok": "ToktokTokenizer", "treebank": "TreebankWordTokenizer", "wordpunct": "WordPunctTokenizer"}


@dataclass(frozen=True)
class NltkTokens:
    """A tokenizer of NLTK's, and a stemmer if one is wanted.

    Give it as ``tokenizer=NltkTokens(...)``, with ``token_pattern=None``. Needs the extra ``text``.

    Raises
    ------
    ValueError
        If there is no such tokenizer or stemmer.
    ImportError
        When used: if NLTK is not installed.
    """

    tokenizer: str = "wordpunct"
    """``wordpunct`` (runs of letters, and of punctuation), ``toktok`` or ``treebank``."""
    stemmer: str | None = None
    """``porter``, or the name of a language of NLTK's Snowball stemmers, as ``english``; None keeps the words."""

    def __post_init__(self) -> None:
        if self.tokenizer not in TOKENIZERS:
            raise ValueError(f"expected tokenizer as one of {', '.join(TOKENIZERS)}, received {self.tokenizer!r}")

    def __call__(self, text: str) -> list[str]:
        """Cut a text into words."""
        words, stem = _rules(self.tokenizer, self.stemmer)
        return words(text) if stem is None else [stem(word) for word in words(text)]


@lru_cache
def _rules(tokenizer: str, stemmer: str | None) -> tuple[Callable[[str], list[str]], Callable[[str], str] | None]:
    try:
        import nltk.tokenize
    except ImportError as error:
        raise ImportError('NltkTokens needs NLTK, which is not installed; pip install "duskflow[text]"') from error
    words = getattr(nltk.tokenize, TOKENIZERS[tokenizer])().tokenize
    if stemmer is None:
        return words, None
    # A text repeats its words: a stem is found once.
    return words, lru_cache(1 << 16)(_stemmer(stemmer).stem)


def _stemmer(name: str) -> Any:
    from nltk.stem import PorterStemmer, SnowballStemmer

    if name == "porter":
        return PorterStemmer()
    if name not in SnowballStemmer.languages:
        known = ", ".join(("porter", *SnowballStemmer.languages))
        raise ValueError(f"expected stemmer as one of {known}, or None, received {name!r}")
    return SnowballStemmer(name)
