"""Vectors of items, whatever made them: side by side, and the nearest ones."""
