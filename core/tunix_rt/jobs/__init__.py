"""What every worker shares: the job directory, the child process, the outbox and the lease."""
