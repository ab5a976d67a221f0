"""Generates the gRPC stubs of `protos/` into `tunix_rt.v1` at every install, wheel and editable."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "tunix_rt/v1"


def generate(root: Path) -> None:
    """Writes the Python modules and type stubs of every proto of `tunix_rt.v1` under `core/`.

    Raises RuntimeError when protoc reports an error.
    """
    protos = root / "protos"
    target = root / "core"
    package = target / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    for stale in package.glob("*_pb2*"):
        stale.unlink()
    (package / "__init__.py").write_text('"""Generated gRPC stubs of the API `tunix_rt.v1`."""\n')
    (package / "py.typed").write_text("")
    (package / "service_config.json").write_bytes((protos / PACKAGE / "service_config.json").read_bytes())
    sources = sorted(str(path.relative_to(protos)) for path in (protos / PACKAGE).glob("*.proto"))
    arguments = [
        "protoc",
        f"-I{protos}",
        f"-I{files('grpc_tools') / '_proto'}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out={target}",
        f"--mypy_grpc_out={target}",
        *sources,
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"protoc failed on {protos}")


class StubsBuildHook(BuildHookInterface[Any]):
    """Runs the generator before hatchling collects files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generates the stubs; `version` and `build_data` are hatchling's and unused."""
        generate(Path(self.root))
