"""The configuration of a pipeline: a typed section for each stage, read from YAML and ``--set key=value``."""
