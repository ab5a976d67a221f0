"""The web page: runs, curves, comparisons, leaderboards and items."""
