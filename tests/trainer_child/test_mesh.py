"""A run on several devices: forced host devices in a process of its own, the real ones of no machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tunix_rt.jobs.directory import JobDirectory, read_json
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.mesh import divided_axis, mesh_shape
from tunix_rt.trainer.specfile import ShardingSettings

# Three rows a step, so that neither two nor four devices have as many each.
SPEC = {
    "steps": 4,
    "batch_size": 3,
    "optimizer": {"learning_rate": 0.001, "weight_decay": 0.1},
    "validate_every": 2,
    "checkpoint_every": 2,
}
MESHES = {
    "one": {"data": 1},
    "two": {"data": 2},
    "four": {"data": 2, "fsdp": 2},
}
CROSSED = {"four, then one": ("four", "one"), "one, then four": ("one", "four")}
QUICKLY_COMPILED = "--xla_backend_optimization_level=0"  # slower code, the same buffers
TRAIN_ALL = """
import sys
from pathlib import Path
from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.lm.compile_cache import use_compile_cache
from tunix_rt.trainer.training import train
use_compile_cache(sys.argv[1])
for root in sys.argv[2:]:
    assert train(JobDirectory(Path(root)), lambda: False, report=print) == {"state": "succeeded"}
"""


def on_devices(count: int, script: str, *arguments: object, flags: str = "") -> str:
    """What a script prints on so many host devices."""
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count} {flags}"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(jobs) -> dict[str, JobDirectory]:
    """The same run on each mesh, and from the second step of one on another."""
    made = {name: jobs.make({**SPEC, "sharding": sharding}) for name, sharding in MESHES.items()}
    for name, (first, then) in CROSSED.items():
        made[name] = jobs.make({**SPEC, "sharding": MESHES[then]})
        made[name].checkpoints.mkdir()
        made[name].checkpoint(2).symlink_to(made[first].checkpoint(2))  # which is trained before
    cache = jobs.environment["TUNIX_RT_COMPILE_CACHE"]
    on_devices(4, TRAIN_ALL, cache, *(directory.root for directory in made.values()), flags=QUICKLY_COMPILED)
    return made


def values(directory: JobDirectory, name: str) -> dict[int, float]:
    lines = map(json.loads, directory.metrics.read_text().splitlines())
    return {line["step"]: line["values"][name] for line in lines if name in line["values"]}


@pytest.mark.parametrize("name", [*MESHES][1:])
@pytest.mark.parametrize("metric", ["train/loss", "validation/loss", "train/grad_norm"])
def test_losses_are_those_of_one_device(trained, name, metric):
    expected, found = (values(trained[each], metric) for each in ("one", name))
    assert found.keys() == expected.keys()
    for step, value in expected.items():
        assert found[step] == pytest.approx(value, rel=1e-6), step


@pytest.mark.parametrize("name", [*[*MESHES][1:], *CROSSED])
def test_weights_are_those_of_one_device(trained, name):
    expected, found = (load_file(trained[each].model / "model.safetensors") for each in ("one", name))
    assert found.keys() == expected.keys()
    for tensor, value in expected.items():
        np.testing.assert_allclose(found[tensor], value, atol=1e-5, rtol=0, err_msg=tensor)


def test_run_of_another_mesh_goes_on_from_its_checkpoint(trained):
    assert [*values(trained["four, then one"], "train/loss")] == [3, 4]


def test_facts_tell_the_mesh(trained):
    facts = read_json(trained["four"].facts)
    assert (facts["devices"], facts["mesh"], facts["processes"]) == (4, {"data": 2, "fsdp": 2}, 1)


def test_checkpoints_hold_whole_arrays(trained):
    one, four = (load_file(trained[name].checkpoint(4) / "optimizer.safetensors") for name in ("one", "four"))
    assert {name: array.shape for name, array in four.items()} == {
        name: array.shape for name, array in one.items()
    }


@pytest.mark.parametrize(
    ("settings", "devices", "shape"),
    [
        (ShardingSettings(), 1, (1, 1)),
        (ShardingSettings(), 8, (8, 1)),
        (ShardingSettings(fsdp=4), 8, (2, 4)),
        (ShardingSettings(data=2, fsdp=2), 8, (2, 2)),
        (ShardingSettings(fsdp=2, processes=2), 2, (1, 2)),
    ],
)
def test_data_takes_what_fsdp_leaves(settings, devices, shape):
    assert mesh_shape(settings, devices) == shape


@pytest.mark.parametrize(
    ("settings", "devices", "message"),
    [
        (ShardingSettings(fsdp=3), 4, "sharding.fsdp is 3; the run has 4 devices"),
        (ShardingSettings(data=4, fsdp=2), 4, "fsdp is 2 and sharding.data 4; the run has 4 devices"),
        (ShardingSettings(data=1, processes=2), 2, "2 processes use all 2 devices"),
    ],
)
def test_devices_that_do_not_suffice_are_refused(settings, devices, message):
    with pytest.raises(TrainingFailure, match=message) as caught:
        mesh_shape(settings, devices)
    assert caught.value.reason == "INVALID_FIELDS"


@pytest.mark.parametrize(
    ("shape", "fsdp", "axis"),
    [
        ((64, 32), 4, 0),
        ((32, 64), 4, 1),
        ((32, 32), 4, 0),
        ((66, 32), 4, 1),
        ((33, 31), 4, None),
        ((64,), 4, None),
        ((64, 32), 1, None),
    ],
)
def test_matrices_are_divided_along_their_largest_fitting_axis(shape, fsdp, axis):
    assert divided_axis(shape, fsdp) == axis


GEMMA_2B = Path(__file__).parent / "memory_on_paper.py"


@pytest.mark.timeout(240)
def test_full_tuning_of_a_gemma_2b_shape_fits_in_16_gb_on_8_devices():
    """AdamW, remat, 8 rows of 1,024 tokens, parameters over 8 devices; float32 throughout.

    Memory grows by the same amount with each layer, so that of 18 follows from 2 and 4 layers, which
    compile in half the time. All 18 together took 12.3 GB.
    """
    assert paper(8, rows=8, lora=False) <= 16e9


@pytest.mark.timeout(240)
def test_adapters_of_a_gemma_2b_shape_fit_in_16_gb_on_one_device():
    """Rank 16 on all projections, remat, 2 rows of 1,024 tokens; from 2 and 4 layers as above."""
    assert paper(1, rows=2, lora=True) <= 16e9


def paper(devices: int, *, rows: int, lora: bool) -> float:
    """The bytes of a step on each device with 18 layers."""
    printed = on_devices(devices, GEMMA_2B.read_text(), devices, rows, int(lora), flags=QUICKLY_COMPILED)
    two, four = json.loads(printed)
    return two + (four - two) / 2 * 16
