"""docker-compose.yml describes what the processes of the system tests do, without an engine to run it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import compose_spec
import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
OURS = ("registry", "trainer", "evaluator", "gateway")


def test_the_file_obeys_the_compose_specification() -> None:
    compose = compose_spec.PyCompose.from_yaml(_interpolated())
    compose.validate()
    assert sorted(compose.service_names()) == sorted((*OURS, "postgres", "minio"))


def test_only_the_gateway_publishes_ports_and_only_on_loopback() -> None:
    published = {
        name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service
    }
    assert list(published) == ["gateway"]
    assert all(port.startswith("127.0.0.1:") for port in published["gateway"])


@pytest.mark.parametrize("service", OURS)
def test_every_variable_of_a_service_is_one_of_its_settings(service: str) -> None:
    settings = importlib.import_module(f"tunix_rt.{service}.settings").Settings
    known = {f"TUNIX_RT_{name}".upper() for name in settings.model_fields}
    assert set(COMPOSE["services"][service]["environment"]) <= known


@pytest.mark.parametrize("service", OURS)
def test_every_service_starts_the_module_of_its_name_unprivileged(service: str) -> None:
    entry = COMPOSE["services"][service]
    assert entry["command"] == ["python", "-m", f"tunix_rt.{service}"]
    assert entry["cap_drop"] == ["ALL"]
    assert entry["read_only"] is True


def test_images_run_as_a_user_and_are_probed() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.search(r"^USER 10001$", dockerfile, re.MULTILINE)
    assert "tunix_rt.rpc.probe" in dockerfile


def test_every_variable_without_default_stands_in_the_example() -> None:
    example = (ROOT / "deploy" / "env.example").read_text()
    for name in re.findall(r"\$\{([A-Z_]+):\?", TEXT):
        assert re.search(rf"^{name}=", example, re.MULTILINE)


def _interpolated() -> str:
    text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", TEXT)
    return yaml.safe_dump(yaml.safe_load(re.sub(r"\$\{[A-Z_]+:\?[^}]*\}", "secret", text)))
