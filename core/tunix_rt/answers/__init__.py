"""The answer in a text, and whether two answers are equal."""
