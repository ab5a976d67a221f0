"""Judges: what they are asked, how their verdicts are read, and answers whose truth is known."""
