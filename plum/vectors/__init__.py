"""Vectors of items from any source: joining modalities, and nearest-neighbour search."""
