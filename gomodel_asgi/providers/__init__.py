"""Upstream providers: the `Provider` value, a preset for each vendor, and `from_env`."""

from .presets import (
    anthropic,
    azure,
    bedrock,
    deepseek,
    from_env,
    gemini,
    groq,
    llamacpp,
    minimax,
    mistral,
    ollama,
    openai,
    openrouter,
    oracle,
    vllm,
    xai,
    zai,
)
from .provider import Provider

__all__ = [
    "Provider",
    "anthropic",
    "azure",
    "bedrock",
    "deepseek",
    "from_env",
    "gemini",
    "groq",
    "llamacpp",
    "minimax",
    "mistral",
    "ollama",
    "openai",
    "openrouter",
    "oracle",
    "vllm",
    "xai",
    "zai",
]
