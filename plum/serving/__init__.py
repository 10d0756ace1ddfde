"""What one does with a finished run: recommend, and give new items Semantic IDs."""
