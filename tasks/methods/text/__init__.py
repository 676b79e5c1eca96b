"""Texts to numbers: counts of words, TF-IDF and hashing, with scikit-learn's interface and results."""
