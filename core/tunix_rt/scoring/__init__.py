"""What outputs are worth: the score of one, and what the outputs of an evaluation add up to."""
