"""Compares runs and model versions: scores, the exact paired test, and what differs.

python examples/compare_runs.py models/smollm2/versions/v1 runs/my-run
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import grpc

from tunix_rt.v1 import gateway_service_pb2, gateway_service_pb2_grpc


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the comparison; the first subject is the baseline. 1 if there is nothing to pair."""
    parser = argparse.ArgumentParser(description="Compare runs and model versions side by side.")
    parser.add_argument("subjects", nargs="+", help="runs/{run} or models/{model}/versions/{version}")
    parser.add_argument(
        "--dataset", default="", help="the one that all were evaluated on, if there are several"
    )
    parser.add_argument("--gateway", default="127.0.0.1:50050")
    arguments = parser.parse_args(argv)
    with grpc.insecure_channel(arguments.gateway) as channel:
        gateway = gateway_service_pb2_grpc.GatewayServiceStub(channel)
        request = gateway_service_pb2.CompareRunsRequest(
            subjects=arguments.subjects, dataset=arguments.dataset
        )
        comparison = gateway.CompareRuns(request, timeout=60)
    for side in comparison.subjects:
        score = side.evaluation.result.score
        loss = f", final loss {side.final_loss:.3f}" if side.HasField("final_loss") else ""
        print(f"{side.subject}: {score.mean:.1%} [{score.low:.1%}, {score.high:.1%}]{loss}")
    for difference in comparison.differences:
        print(f"  {difference.path}: {' | '.join(value or '-' for value in difference.values)}")
    if not comparison.pairs:
        print(f"nothing to pair: {comparison.pairs_missing_reason}")
        return 1
    for pair in comparison.pairs:
        verdict = gateway_service_pb2.PairedComparison.Verdict.Name(pair.verdict).lower().replace("_", " ")
        p_value = f"p = {pair.adjusted_p_value:.4g}"
        print(f"{pair.subject}: {verdict}; {pair.gained} gained, {pair.lost} lost, {p_value}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
