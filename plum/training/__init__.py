"""The training loop with exact resume, the search over settings, and what training costs."""
