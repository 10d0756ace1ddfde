"""Users' histories in, ranked catalogue items out: the language model and everything that it is compared with."""
