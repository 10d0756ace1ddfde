"""What a language model knows of items and kept of its language: measurements on fixed samples, with references."""
