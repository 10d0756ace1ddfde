"""Stage eval: every retriever on the same users, their figures and the report."""

from plum.stages.eval.stage import run

__all__ = ["run"]
