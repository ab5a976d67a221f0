"""The trainer: checks and queues runs, supervises their training in child processes."""
