"""Batches and arrays of datasets as what other frameworks take."""
