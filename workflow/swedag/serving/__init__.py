"""vLLM servers: a model folder in, an OpenAI-compatible endpoint on 127.0.0.1 for the length of a `with` block out.

with serve(Path("results/models/base"), ServingSettings(), log) as server:
    client = openai.OpenAI(base_url=server.base_url, api_key=server.api_key)
    client.chat.completions.create(model=server.model, ...)
"""

from swedag.serving.command import served, tool_python
from swedag.serving.process import Server, ServingError, serve
from swedag.serving.settings import ServingSettings

__all__ = ["Server", "ServingError", "ServingSettings", "serve", "served", "tool_python"]
