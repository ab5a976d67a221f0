"""The memory of the system: the only service that opens the database."""
