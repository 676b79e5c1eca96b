"""Embeddings in few dimensions that keep distances or neighbourhoods."""
