"""The one-command stack, the `tunix-rt` command line and the demo."""
