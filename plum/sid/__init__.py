"""Item vectors -> Semantic IDs: quantisers, collisions and quality."""
