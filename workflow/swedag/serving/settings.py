"""Settings of a vLLM server, as they stand in the config."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ServingSettings(BaseModel):
    """How a model is served by vLLM: context, precision, memory and parallelism."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs; auto takes the GPUs where there are any"
    )
    max_model_len: int = Field(4096, ge=16, description="Context length: tokens of prompt and reply together")
    dtype: str = Field("auto", description="Precision of the weights; auto is the checkpoint's own, float32 on CPUs")
    max_num_seqs: int = Field(64, ge=1, description="Sequences that the server decodes together")
    kv_cache_gb: float = Field(0.25, gt=0, description="Memory of the key-value cache in GiB, on CPUs")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="Share of each GPU's memory that vLLM takes")
    cpu_threads: int = Field(1, ge=1, description="Compute threads on CPUs; one is best where cores are shared")
    tensor_parallel: int = Field(1, ge=1, description="GPUs over which each copy of the model is split")
    data_parallel: int = Field(1, ge=1, description="Copies of the model, each on its own GPUs")
    quantization: str | None = Field(None, description="vLLM's name of a quantisation, e.g. fp8; null for none")
    enforce_eager: bool = Field(False, description="Skip compilation and CUDA graphs; always so on CPUs")
    seed: int = Field(0, ge=0, description="Seed of the server; every request carries its own")
    startup_seconds: float = Field(900, gt=0, description="Time within which the server must answer")
    extra_arguments: list[str] = Field([], description="Further arguments of `vllm serve`, word by word")

    def gpus(self) -> int:
        """GPUs that the server takes where there are any."""
        return 0 if self.device == "cpu" else self.tensor_parallel * self.data_parallel
