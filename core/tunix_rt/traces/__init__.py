"""Reasoning traces: parsing, checking, splitting, rendering to text and generating."""
