"""Training rows: rendered once on the dataset side, stored in one file, read by the child."""
