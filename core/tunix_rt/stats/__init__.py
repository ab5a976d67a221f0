"""Intervals and paired tests for evaluation scores."""
