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
from tunix_rt.lm.tiny import make_tiny_model
from tunix_rt.trainer.batches import Batch
from tunix_rt.trainer.failure import TrainingFailure
from tunix_rt.trainer.mesh import divided_axis
from tunix_rt.trainer.program import step_arrays
from tunix_rt.trainer.sharding_settings import ShardingSettings, mesh_shape

# Three rows a step, two at a time, so that neither two nor four devices have as many each.
SPEC = {
    "steps": 3,
    "batch_size": 3,
    "micro_batch_size": 2,
    "ema_decay": 0.5,
    "optimizer": {"learning_rate": 0.001, "weight_decay": 0.1},
    "validate_every": 3,
    "checkpoint_every": 2,
    "retention": {"keep_last": 2},
}
MESHES = {"one": {"data": 1}, "four": {"data": 2, "fsdp": 2}, "two": {"data": 2}}
QUICKLY_COMPILED = "--xla_backend_optimization_level=0"  # slower code, the same buffers
TRAIN_ALL = """
import sys
from pathlib import Path
from tunix_rt.jobs.directory import JobDirectory
from tunix_rt.trainer.training import train
for root in sys.argv[1:]:
    assert train(JobDirectory(Path(root)), lambda: False, report=print) == {"state": "succeeded"}
"""


def on_devices(count: int, script: str, *arguments: object) -> str:
    """What a script prints on so many host devices."""
    flags = f"--xla_force_host_platform_device_count={count} {QUICKLY_COMPILED}"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "XLA_FLAGS": flags}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(jobs, tmp_path_factory) -> dict[str, JobDirectory]:
    """The same run on one device and on four, and on two what those four had not done after two steps.

    At a low rate, because Adam makes a whole step of a gradient whose sign is a matter of rounding.
    """
    base = tmp_path_factory.mktemp("shallow") / "model"
    make_tiny_model(base, ["Calculate 3 + 4.", "3 + 4 = 7"] * 5, hidden_size=32, num_layers=1)
    made = {name: jobs.make({**SPEC, "sharding": mesh}, base=base) for name, mesh in MESHES.items()}
    made["two"].checkpoints.mkdir()
    made["two"].checkpoint(2).symlink_to(made["four"].checkpoint(2))
    on_devices(4, TRAIN_ALL, *(directory.root for directory in made.values()))
    return made


def values(directory: JobDirectory, name: str) -> dict[int, float]:
    lines = map(json.loads, directory.metrics.read_text().splitlines())
    return {line["step"]: line["values"][name] for line in lines if name in line["values"]}


@pytest.mark.parametrize("metric", ["train/loss", "train/entropy", "train/grad_norm", "validation/loss"])
def test_losses_are_those_of_one_device(trained, metric):
    expected, found = (values(trained[each], metric) for each in ("one", "four"))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["four", "two"])
def test_weights_are_those_of_one_device(trained, name):
    expected, found = (load_file(trained[each].model / "model.safetensors") for each in ("one", name))
    assert found.keys() == expected.keys()
    for tensor, value in expected.items():
        np.testing.assert_allclose(found[tensor], value, atol=1e-5, rtol=0, err_msg=tensor)


def test_run_of_another_mesh_goes_on_from_its_checkpoint(trained):
    assert [*values(trained["two"], "train/loss")] == [3]


def test_another_mesh_is_told_and_remembered(trained):
    told = "step 2: mesh data 2, fsdp 2, processes 1 -> data 2, fsdp 1, processes 1"
    assert read_json(trained["two"].facts)["environment_changes"] == told


def test_facts_tell_the_mesh(trained):
    facts = read_json(trained["four"].facts)
    assert (facts["devices"], facts["mesh"], facts["processes"]) == (4, {"data": 2, "fsdp": 2}, 1)


def test_checkpoints_hold_whole_arrays(trained):
    one, four = (load_file(trained[name].checkpoint(3) / "optimizer.safetensors") for name in ("one", "four"))
    assert {name: array.shape for name, array in four.items()} == {
        name: array.shape for name, array in one.items()
    }


def test_rows_keep_their_numbers_and_weights_on_every_device():
    tokens = np.arange(12, dtype=np.int32).reshape(3, 4)
    weights = np.asarray([[1, 1, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0]], np.float32)
    batch = Batch(tokens, tokens, tokens, tokens, weights, traces=())
    arrays = step_arrays(batch, 2, parts=2)
    assert arrays["rows"].tolist() == [[0, 1], [2, 3]]
    assert arrays["tokens"][:, :, 1].tolist() == [[1, 5], [9, 0]]
    assert arrays["gathered"].weights[:, :, :2].tolist() == [[[0.25, 0.25], [0, 0]], [[0.5, 0], [0, 0]]]
    assert arrays["gathered"].rows[:, :, :2].tolist() == [[[0, 1], [4, 4]], [[0, 4], [4, 4]]]


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


def test_full_tuning_of_a_gemma_2b_shape_fits_in_16_gb_on_8_devices():
    """AdamW, remat, 8 rows of 1,024 tokens, parameters over 8 devices; float32 throughout.

    Memory grows by the same amount with each layer, so that of 18 follows from 1 and 2. All 18 together
    took 10.5 GB.
    """
    script = Path(__file__).with_name("memory_on_paper.py").read_text()
    found = json.loads(on_devices(8, script))
    assert found["1"] + 17 * (found["2"] - found["1"]) <= 16e9
