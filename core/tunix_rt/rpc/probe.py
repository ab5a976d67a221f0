"""Asks a server's health check; the exit code says whether it serves. For containers and scripts.

Usage: python -m tunix_rt.rpc.probe HOST:PORT [NAME]

NAME is a service, a dependency such as `database`, or `live`; without it, all of the server is asked for.
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 3.0


def is_serving(address: str, name: str = "", *, timeout: float = TIMEOUT_SECONDS) -> bool:
    """Whether the server at `host:port` answers SERVING for a name within `timeout` seconds."""
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            response = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=timeout)
        except grpc.RpcError:
            return False
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(0 if len(sys.argv) in (2, 3) and is_serving(*sys.argv[1:]) else 1)
