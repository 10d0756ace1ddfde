"""Stage eval: every retriever on the same users, their figures and the report."""

from plum.stages.eval.stage import refuse_damaged, run

__all__ = ["refuse_damaged", "run"]
