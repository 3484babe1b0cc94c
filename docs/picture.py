"""Draws `docs/picture.svg`, where the gateway sits in a host app: `python docs/picture.py`."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
WIDTH, HEIGHT = 800, 360
STYLE = """
    svg { color-scheme: light dark; font: 14px system-ui, sans-serif }
    .page { fill: #ffffff } .text { fill: #1b1f24 } .small { fill: #57606a; font-size: 12px }
    .box { fill: #f3f5f7; stroke: #6e7781 } .app { fill: none; stroke: #6e7781; stroke-dasharray: 6 4 }
    .ours { fill: #ddf4ff; stroke: #0969da } .yours { fill: #fff1c2; stroke: #9a6700 }
    .way { stroke: #57606a; stroke-width: 1.5; fill: none } .tip { fill: #57606a }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117 } .text { fill: #e6edf3 } .small { fill: #9da7b3 }
      .box { fill: #1c2128; stroke: #8b949e } .app { stroke: #8b949e }
      .ours { fill: #0c2d4f; stroke: #4493f8 } .yours { fill: #3a2c00; stroke: #d29922 }
      .way { stroke: #9da7b3 } .tip { fill: #9da7b3 }
    }"""
DESCRIPTION = (
    "Clients call your app. Behind your login, the paths of the Responses API are answered by gomodel_asgi, which asks"
    " your policy, and the policy your database; all other paths go to your own routes. The gateway passes bytes to"
    " providers that speak the Responses API, and translates for Anthropic, Gemini and chat completions."
)


def box(kind: str, x: int, y: int, width: int, height: int) -> str:
    """Returns a rounded box."""
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'


def text(kind: str, x: int, y: int, said: str, anchor: str = "middle") -> str:
    """Returns a line of text whose middle, start or end is at *x*."""
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{said}</text>'


def labelled(kind: str, x: int, y: int, width: int, height: int, name: str, *more: str) -> list[str]:
    """Returns a box with its *name* in the middle, and smaller lines below it."""
    middle = x + width // 2
    top = y + height // 2 + 5 - 8 * len(more)
    lines = [text("small", middle, top + 17 * (number + 1), line) for number, line in enumerate(more)]
    return [box(kind, x, y, width, height), text("text", middle, top, name), *lines]


def arrow(*points: tuple[int, int]) -> str:
    """Returns a line through *points* with a tip at its end."""
    way = " L".join(f"{x} {y}" for x, y in points)
    return f'<path class="way" d="M{way}" marker-end="url(#tip)"/>'


def picture() -> str:
    """Returns the whole drawing."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="about">',
        f'<title id="about">{DESCRIPTION}</title>',
        f"<style>{STYLE}\n</style>",
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="tip" d="M0 0 L10 5 L0 10 z"/></marker></defs>',
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="12"/>',
        *labelled("box", 16, 100, 124, 80, "clients", "OpenAI SDKs,", "agents, Codex"),
        box("app", 172, 24, 404, 316),
        text("text", 190, 48, "your app: Starlette, FastAPI, Django, …", "start"),
        *labelled("yours", 190, 70, 80, 140, "your login"),
        box("ours", 304, 70, 254, 140),
        text("text", 431, 94, "gomodel_asgi: /v1/responses, …"),
        *labelled("yours", 322, 106, 218, 40, "your policy"),
        text("small", 431, 168, "state · tools · quotas · ledger"),
        text("small", 431, 188, "retries · fallbacks · breakers"),
        *labelled("yours", 190, 256, 170, 60, "your other routes"),
        *labelled("yours", 388, 256, 170, 60, "your database"),
        arrow((140, 140), (190, 140)),
        arrow((270, 126), (304, 126)),
        arrow((230, 210), (230, 256)),
        arrow((473, 210), (473, 256)),
        text("small", 240, 236, "all other paths", "start"),
    ]
    upstreams = [
        ("OpenAI, Azure, xAI, …", "Responses: bytes pass"),
        ("vLLM, Ollama, …", "Responses: bytes pass"),
        ("Anthropic", "translated"),
        ("Gemini", "translated"),
        ("Groq, Mistral, …", "chat: translated"),
    ]
    for number, (name, how) in enumerate(upstreams):
        top = 24 + 64 * number
        parts += labelled("box", 616, top, 168, 52, name, how)
        parts.append(arrow((558, 140), (590, 140), (590, top + 26), (616, top + 26)))
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    (HERE / "picture.svg").write_text(picture())
