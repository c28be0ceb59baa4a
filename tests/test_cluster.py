"""cluster.yaml is valid, `ray submit` runs a command line there, and room is known beforehand."""

import contextlib
import copy
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from orchestrator import cluster, submit

ROOT = Path(__file__).parent.parent
CLUSTER: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
TOOLS = ("ssh", "ssh-keygen", "nc", "rsync", "/usr/sbin/sshd")
SHORT = ("train.steps=4", "train.evaluate_every=4", "batch.tokens=512", "scaling.workers=1")
"""What shortens the demo: the way to the cluster is tested here, not the training."""

missing = [tool for tool in TOOLS if shutil.which(tool) is None]
reason = f"needs {', '.join(missing)}" if missing else "needs root, to start an ssh server"
over_ssh = pytest.mark.skipif(bool(missing) or os.geteuid() != 0, reason=reason)


def free_port() -> int:
    """Give a port that nothing listens on; Ray takes 0 for "choose", but then nobody knows it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_rays_own_schema_accepts_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(CLUSTER))
    validate_config(prepared)  # raises where it does not
    assert prepared["cluster_name"] == CLUSTER["cluster_name"]


def test_every_ray_process_of_the_cluster_asks_for_the_token() -> None:
    starts = CLUSTER["head_start_ray_commands"] + CLUSTER["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in start for start in starts)
    assert any("get-auth-token --generate" in line for line in CLUSTER["setup_commands"])


def test_the_dashboard_listens_on_loopback_alone() -> None:
    (head,) = CLUSTER["head_start_ray_commands"]
    assert "--dashboard-host=127.0.0.1" in head


def test_starting_the_cluster_ends_nobodys_ray() -> None:
    assert "ray stop" not in " ".join(
        CLUSTER["head_start_ray_commands"] + CLUSTER["worker_start_ray_commands"]
    )


def test_the_address_is_read_off_the_start_command(tmp_path: Path) -> None:
    started_with = tmp_path / "ray_bootstrap_config.yaml"
    assert submit.head_address(started_with) == "127.0.0.1:6379"
    moved = json.dumps(CLUSTER).replace("--port=6379", "--port=7001")
    started_with.write_text(moved)
    assert submit.head_address(started_with) == "127.0.0.1:7001"


class Loopback:
    """A private ssh server on this machine, with throw-away keys, home and cluster file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.home = folder / "home"
        self.ray = folder / "r"
        self.home.mkdir()
        for key in ("id", "host"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
            subprocess.run(keygen, check=True)
        self.server = self.start_server()
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
            "HOME": str(self.home),
            "RAY_TMPDIR": str(folder),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.file = folder / "cluster.yaml"
        self.file.write_text(yaml.safe_dump(self.derived()))

    def start_server(self) -> subprocess.Popen[bytes]:
        """Start sshd in the foreground, so that it ends with its process id."""
        Path("/run/sshd").mkdir(exist_ok=True)
        shutil.copy(self.folder / "id.pub", self.folder / "authorized")
        settings = self.folder / "sshd_config"
        settings.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\n"
            f"PidFile {self.folder}/pid\nAuthorizedKeysFile {self.folder}/authorized\n"
            "PasswordAuthentication no\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
            f"SetEnv HOME={self.home} RAY_TMPDIR={self.folder}\n"
        )
        log = str(self.folder / "sshd.log")
        return subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(settings), "-E", log])

    def derived(self) -> dict[str, Any]:
        """Change in cluster.yaml only what belongs to a machine."""
        config = copy.deepcopy(CLUSTER)
        config["provider"]["head_ip"] = "127.0.0.1"
        config["auth"] = {
            "ssh_user": "root",
            "ssh_private_key": str(self.folder / "id"),
            "ssh_proxy_command": f"nc 127.0.0.1 {self.port}",
        }
        config["file_mounts"] = {}
        tlmt = self.home / "tlmt"
        config["setup_commands"] = [
            f"mkdir -p {tlmt} && ln -sfn {sys.prefix} {tlmt}/.venv",
            f"ln -sfn {ROOT}/experiments {tlmt}/experiments",
            *CLUSTER["setup_commands"][2:],
        ]
        (head,) = CLUSTER["head_start_ray_commands"]
        for port in ("--port=6379", "--dashboard-port=8265"):
            assert port in head
            head = head.replace(port, f"{port.partition('=')[0]}={free_port()}")
        assert "/tmp/tlmt-ray" in head
        config["head_start_ray_commands"] = [head.replace("/tmp/tlmt-ray", str(self.ray))]
        return config

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of Ray's own commands against the derived file, as a user would."""
        return subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=500,
        )

    def submit(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a ``tlmt`` command line on the head."""
        file = str(self.file)
        return self.call(
            "submit", "--no-config-cache", file, "orchestrator/submit.py", "--", *words
        )

    def close(self) -> None:
        """End the processes of this cluster, by id: those with its folder in their command line."""
        ours = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if process.pid != os.getpid() and any(str(self.ray) in word for word in words):
                ours.append(process)
        for process in ours:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(ours, timeout=10)[1]:
            process.kill()
        self.server.terminate()
        self.server.wait()


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """Bring the cluster up. The folder is short because Ray keeps sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="tl", dir="/tmp"))
    cluster = Loopback(folder)
    try:
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(folder)


@pytest.mark.slow
@over_ssh
@pytest.mark.ray
@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_a_submitted_command_line_runs_on_the_head(loopback: Loopback) -> None:
    up = loopback.call("up", "-y", "--no-config-cache", str(loopback.file))
    assert up.returncode == 0, up.stdout + up.stderr
    submitted = loopback.submit("train", "experiments/demo.yaml", *SHORT)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    (found,) = (loopback.home / "tlmt" / "runs" / "demo").glob("*/results.json")
    results = json.loads(found.read_text())
    assert results["steps"] == 4
    assert set(results["tasks"]) == {"sentiment", "topic", "roles"}
    logs = loopback.ray / "session_latest" / "logs"
    assert list(logs.glob("python-core-driver-*")), "the run did not use the cluster's Ray"
    assert not list((loopback.folder / "ray").glob("session_*")), "the run started its own Ray"

    failed = loopback.submit("train", "experiments/demo.yaml", "train.stepz=4")
    assert failed.returncode == 1
    assert "did you mean train.steps?" in failed.stdout + failed.stderr
    assert "tlmt ended with exit code 2." in failed.stdout + failed.stderr


@pytest.mark.parametrize(
    ("node", "each", "room"),
    [
        ({"CPU": 4.0}, {"CPU": 8}, 0),
        ({"CPU": 4.0}, {"CPU": 1}, 4),
        ({"CPU": 16.0, "GPU": 2.0}, {"CPU": 2, "GPU": 1}, 2),
        ({"CPU": 16.0}, {"CPU": 2, "GPU": 1}, 0),
    ],
)
def test_a_worker_needs_one_machine_with_room_for_it(
    node: dict[str, float], each: dict[str, float], room: int
) -> None:
    assert cluster.room(node, each) == room
