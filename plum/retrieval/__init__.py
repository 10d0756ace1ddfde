"""Retrievers: histories in, ranked catalogue items out.

``generative`` is the language model as a retriever. It searches by ``beam``, ``exact`` or ``sampling``, over the index
of ``constraint``, with the tree attention of ``tree``; ``processor`` brings the same constraint to ``generate``.
``dense`` and ``simple`` are what it is compared with. To ask a finished run, see ``plum.stages.recommend.Recommender``.
"""
