"""The evaluator: generation in a warm engine process, and evaluations scored with pure functions."""
