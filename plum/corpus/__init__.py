"""What continued pre-training reads: documents of behaviour, items and general text, and how they become batches."""
