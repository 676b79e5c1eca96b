"""Shuffled batches from a dataset: order, reading, memory."""
