"""Two processes of one head, on loopback, against one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.testing import assert_allclose

WORKER = Path(__file__).with_name("head_process.py")


def start(process, count, port):
    environment = os.environ | {"PYTHONPATH": str(WORKER.parents[1]), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(WORKER), str(process), str(count), str(port)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results(count):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(i, count, port) for i in range(count)]
    try:
        said = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, said, strict=True):
        assert process.returncode == 0, errors[-2000:]
    return json.loads(said[0][0].splitlines()[-1])  # after what gloo has to say


def test_two_processes_train_as_one():
    one, two = results(1), results(2)
    assert (one["processes"], two["processes"], two["devices"]) == (1, 2, 4)
    one, two = np.array(one["losses"]), np.array(two["losses"])
    assert one[-1, 0] < 0.9 * one[0, 0]
    assert_allclose(two[:, 0], one[:, 0], rtol=1e-6)
    assert_allclose(two[:, 1], one[:, 1], rtol=0.02)  # other draws of the same estimate
