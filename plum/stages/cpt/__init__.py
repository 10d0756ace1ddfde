"""Stage cpt: continued pre-training of a decoder-only language model on behaviour and item text (PLUM section 2.2)."""

from plum.stages.cpt.stage import run

__all__ = ["run"]
