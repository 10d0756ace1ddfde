"""Item content -> vectors, one module per encoder."""
