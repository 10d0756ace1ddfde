"""Stage tokenize: item vectors -> Semantic IDs."""

from plum.stages.tokenize.stage import run

__all__ = ["run"]
