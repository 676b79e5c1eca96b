"""Clusters of clusters: agglomeration and the minimum spanning tree behind single linkage."""
