"""gRPC shells: errors, statuses, names, pages, servers and channels."""
