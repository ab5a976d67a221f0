"""The import rules of the architecture page, enforced."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = [
    "core",
    *(f"services/{name}" for name in ("registry", "trainer", "evaluator", "gateway", "standalone")),
]
SERVICES = {"registry", "trainer", "evaluator", "gateway"}

# Modules of the trainer and the evaluator that run in a child process, and so know nothing of gRPC.
CHILDREN = (
    "tunix_rt.trainer.job",
    "tunix_rt.trainer.loop",
    "tunix_rt.trainer.batches",
    "tunix_rt.trainer.loss",
    "tunix_rt.trainer.mesh",
    "tunix_rt.trainer.optimizer",
    "tunix_rt.trainer.processes",
    "tunix_rt.trainer.specfile",
    "tunix_rt.evaluator.engine",
    "tunix_rt.evaluator.scheduler",
    "tunix_rt.scoring.formula_worker",
)
PURE = ("tunix_rt.traces", "tunix_rt.answers", "tunix_rt.stats", "tunix_rt.judges")
PURE_FORBIDDEN = {"grpc", "psycopg", "minio", "time", "datetime", "os", "random", "secrets", "uuid", "jax"}
ONLY_HERE = {
    "psycopg": "tunix_rt.registry.database",
    "psycopg_pool": "tunix_rt.registry.database",
    "minio": "tunix_rt.blobs.s3",
    "pyarrow": "tunix_rt.standalone.dataset_tables",
}
FORMULAS = {"tunix_rt.answers.formula_values", "tunix_rt.answers.same_value"}  # only these import mpmath
FORBIDDEN_NAMES = {"utils", "common", "helpers", "base", "util", "misc"}


def modules() -> Iterator[tuple[str, Path]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if parts[:2] == ("tunix_rt", "v1"):
                continue
            yield ".".join(part for part in parts if part != "__init__"), path


MODULES = dict(modules())


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


IMPORTS = {module: imports_of(path) for module, path in MODULES.items()}


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def ours(module: str) -> set[str]:
    return {name for name in IMPORTS[module] if name in MODULES or inside(name, "tunix_rt.v1")}


def reachable(module: str) -> set[str]:
    """Every name that importing a module imports, through our own modules."""
    seen: set[str] = set()
    names: set[str] = set()
    todo = [module]
    while todo:
        current = todo.pop()
        if current in seen or current not in MODULES:
            continue
        seen.add(current)
        names |= IMPORTS[current]
        todo.extend(IMPORTS[current])
    return names


def test_there_are_modules_to_check() -> None:
    assert len(MODULES) > 30


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_services_do_not_import_one_another(service: str) -> None:
    others = {f"tunix_rt.{other}" for other in (SERVICES - {service}) | {"standalone"}}
    bad = {
        (module, name)
        for module in MODULES
        if inside(module, f"tunix_rt.{service}")
        for name in IMPORTS[module]
        if any(inside(name, other) for other in others)
    }
    assert not bad


def test_core_imports_no_service() -> None:
    core = {module for module, path in MODULES.items() if path.is_relative_to(ROOT / "core")}
    services = {f"tunix_rt.{name}" for name in SERVICES | {"standalone"}}
    bad = {(m, n) for m in core for n in IMPORTS[m] if any(inside(n, service) for service in services)}
    assert not bad


@pytest.mark.parametrize("package", PURE)
def test_pure_modules_import_only_the_standard_library_and_numpy(package: str) -> None:
    allowed = set(sys.stdlib_module_names) - PURE_FORBIDDEN | {"numpy", "tunix_rt"}
    for module in MODULES:
        if inside(module, package):
            tops = {name.split(".")[0] for name in IMPORTS[module]} - (
                {"mpmath"} if module in FORMULAS else set()
            )
            assert tops <= allowed, module
            assert all(any(inside(name, pure) for pure in PURE) for name in ours(module)), module


def test_only_the_generator_of_arithmetic_loads_reasoning_gym() -> None:
    users = {module for module, path in MODULES.items() if "reasoning_gym" in path.read_text()}
    assert users == {"tunix_rt.traces.gym_families"}


def test_the_model_library_knows_no_rpc() -> None:
    for module in MODULES:
        if inside(module, "tunix_rt.lm"):
            names = IMPORTS[module]
            assert not any(
                inside(n, "tunix_rt.rpc") or inside(n, "tunix_rt.v1") or inside(n, "grpc") for n in names
            )


@pytest.mark.parametrize("module", CHILDREN)
def test_children_import_no_grpc(module: str) -> None:
    names = reachable(module)
    assert module in MODULES
    assert not any(inside(name, bad) for name in names for bad in ("grpc", "tunix_rt.v1", "tunix_rt.rpc"))


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_servers_import_no_jax(service: str) -> None:
    names = reachable(f"tunix_rt.{service}.server") | reachable(f"tunix_rt.{service}.__main__")
    assert not any(inside(name, bad) for name in names for bad in ("jax", "flax", "optax", "transformers"))


def test_only_the_formula_worker_computes_values_of_formulas() -> None:
    assert {
        module for module in MODULES if any(inside(name, "mpmath") for name in IMPORTS[module])
    } == FORMULAS
    users = {
        m for m in MODULES if not inside(m, "tunix_rt.answers") and "tunix_rt.answers.same_formula" in ours(m)
    }
    assert users == {"tunix_rt.scoring.formula_worker"}
    for server in ("tunix_rt.evaluator.server", "tunix_rt.registry.server"):
        assert "mpmath" not in reachable(server)


@pytest.mark.parametrize("package", sorted(ONLY_HERE))
def test_drivers_are_imported_in_one_module_only(package: str) -> None:
    users = {module for module in MODULES if any(inside(name, package) for name in IMPORTS[module])}
    assert users <= {ONLY_HERE[package]}


def test_no_module_is_a_junk_drawer() -> None:
    assert not {module for module in MODULES if FORBIDDEN_NAMES & set(module.split("."))}


def test_the_namespace_package_has_no_init() -> None:
    assert not [folder for folder in FOLDERS if (ROOT / folder / "tunix_rt" / "__init__.py").exists()]
