"""Metrics and tests of ranked lists; it knows items, no model."""
