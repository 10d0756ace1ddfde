"""The language model: vocabulary, documents, training examples and losses."""
