"""The files of a run: names, manifests, locks, and writing them whole or not at all."""
