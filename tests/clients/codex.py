"""Codex CLI: configured with base URL and key, run once for each feature in a folder of its own."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from gomodel_asgi.testing import Answer, Prompt, ToolCall

from .features import ASKED, CITY, PIXEL, TEXT, THOUGHT, TIMEOUT, TOLD, Feature
from .scene import Scene

ATTEMPT = 90
"""Seconds for one run."""
PATCH = "*** Begin Patch\n*** Add File: lantern.txt\n+lit\n*** End Patch"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "inhabitants": {"type": "integer"}},
    "required": ["name", "inhabitants"],
    "additionalProperties": False,
}
CONFIG = """
model_provider = "gateway"
check_for_update_on_startup = false
sandbox_mode = "workspace-write"

[analytics]
enabled = false

[model_providers.gateway]
name = "gateway"
base_url = "{base_url}"
env_key = "OPENAI_API_KEY"
"""


class Codex:
    """*model* None leaves the choice to Codex; any other it does not know, and treats as one of somebody's own.

    Its models call a tool that runs JavaScript, in which all others are functions; other models get them as they are.
    """

    def __init__(self, into: Path, home: Path, environment: dict[str, str], scene: Scene, model: str | None) -> None:
        self.binary = into / "node" / "node_modules" / ".bin" / "codex"
        self.home = home
        self.environment = {**environment, "HOME": str(home), "CODEX_HOME": str(home / "codex")}
        self.scene = scene
        self.model = model
        self.numbers = count()
        (home / "codex").mkdir()
        (home / "codex" / "config.toml").write_text(CONFIG.format(base_url=scene.base_url))

    def attempt(self, feature: Feature) -> str | None:
        tries = {
            "text": self.text,
            "stream": self.text,
            "tools": self.tools,
            "patch": self.patch,
            "structured output": self.structured,
            "reasoning": self.reasoning,
            "images": self.images,
            "turns": self.turns,
            "compaction": self.compaction,
            "abort": self.abort,
        }
        if self.model is not None:
            tries["parallel tools"] = self.parallel
        if feature.name not in tries:
            return None
        folder = self.home / f"work{next(self.numbers)}"
        folder.mkdir()
        try:
            return tries[feature.name](folder)
        except subprocess.TimeoutExpired:
            return f"it has not ended within {ATTEMPT} seconds"

    # Each feature...

    def text(self, folder: Path) -> str:
        return wanted(self.run(folder, "Is it lit?"), TEXT)

    def tools(self, folder: Path) -> str:
        """It runs a command, and the model gets to know what came of it."""
        self.scene.script(self.command("echo rain-$((3+4))"), told("rain-7"))
        return wanted(self.run(folder, "What is the weather?"), TEXT)

    def parallel(self, folder: Path) -> str:
        calls = [*self.command("echo rain-$((3+4))").calls, *self.command("echo sun-$((4+5))").calls]
        self.scene.script(Answer(calls=calls), told("rain-7", "sun-9"))
        return wanted(self.run(folder, "What is the weather?"), TEXT)

    def patch(self, folder: Path) -> str:
        """It applies a patch."""
        if self.model is None:
            answer = self.script(f"text(await tools.apply_patch({json.dumps(PATCH)}))")
        else:
            answer = self.command(f"apply_patch <<'EOF'\n{PATCH}\nEOF")
        self.scene.script(answer, lambda prompt: Answer(text=TEXT))
        problem = wanted(self.run(folder, "Light it."), TEXT)
        file = folder / "lantern.txt"
        return problem or ("" if file.exists() and file.read_text() == "lit\n" else "the patch was not applied")

    def structured(self, folder: Path) -> str:
        (folder / "schema.json").write_text(json.dumps(SCHEMA))
        return wanted(self.run(folder, "Describe Oslo.", "--output-schema", "schema.json"), json.dumps(CITY))

    def reasoning(self, folder: Path) -> str:
        events = self.run(
            folder, "Is it lit?", "-c", "model_reasoning_effort=low", "-c", "model_reasoning_summary=auto"
        )
        thoughts = [item["text"] for item in items(events, "reasoning")]
        return wanted(events, TEXT) or ("" if thoughts == [THOUGHT] else f"it shows the reasoning {thoughts}")

    def images(self, folder: Path) -> str:
        (folder / "pixel.png").write_bytes(base64.b64decode(PIXEL.partition(",")[2]))
        return wanted(self.run(folder, "Look.", "-i", "pixel.png"), TEXT)

    def turns(self, folder: Path) -> str:
        first = self.run(folder, TOLD)
        started = next((event["thread_id"] for event in first if event["type"] == "thread.started"), "")
        return wanted(self.run(folder, ASKED, resume=started), "The word is lantern.")

    def compaction(self, folder: Path) -> str:
        """It compacts what was said before it goes on, since there is more of it than it is told to keep."""
        little = ("-c", "model_auto_compact_token_limit=1000")
        first = self.run(folder, TOLD, *little)
        started = next((event["thread_id"] for event in first if event["type"] == "thread.started"), "")
        problem = wanted(self.run(folder, ASKED, *little, resume=started), "The word is lantern.")
        asked = len(self.scene.fake.requests)
        return problem or ("" if asked > 2 else "it has not compacted")

    def abort(self, folder: Path) -> str:
        """It is stopped while it listens."""
        command = self.line("Is it lit?")
        with subprocess.Popen(command, cwd=folder, env=self.environment, stdin=NO, stdout=NO, stderr=NO) as process:
            came = self.scene.streaming(TIMEOUT)
            process.send_signal(signal.SIGINT)
            process.wait(TIMEOUT)
        return "" if came else "it did not ask for a stream"

    # How it is run...

    def command(self, command: str) -> Answer:
        """The model wants a command to be run."""
        if self.model is None:
            call = json.dumps({"cmd": command})
            return self.script(f"const done = await tools.exec_command({call}); text(done.output)")
        return Answer(calls=[ToolCall("exec_command", {"cmd": command})])

    def script(self, source: str) -> Answer:
        """The model wants JavaScript to be run."""

        return Answer(calls=[ToolCall("exec", source, custom=True)])

    def line(self, prompt: str, *options: str, resume: str = "") -> list[str]:
        model = ["-m", self.model] if self.model else []
        free = ["--skip-git-repo-check"]
        verb = ["exec", *(["resume", resume] if resume else [])]
        return [str(self.binary), *verb, "--json", *free, *model, *options, "--", prompt]

    def run(self, folder: Path, prompt: str, *options: str, resume: str = "") -> list[dict[str, Any]]:
        """The events that it prints."""
        done = subprocess.run(
            self.line(prompt, *options, resume=resume), cwd=folder, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=ATTEMPT,
        )  # fmt: skip
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return events or [{"type": "error", "message": done.stderr[-1000:]}]


def told(*outputs: str) -> Any:
    """A model that has to know what its commands put out."""

    def answer(prompt: Prompt) -> Answer:
        missing = [output for output in outputs if not any(output in each.text for each in prompt.outputs)]
        return Answer(text=f"I was not told {missing}, but {prompt.outputs}" if missing else TEXT)

    return answer


def items(events: Sequence[dict[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
    """The items of this kind that were completed."""
    for event in events:
        if event["type"] == "item.completed" and event["item"]["type"] == kind:
            yield event["item"]


def wanted(events: Sequence[dict[str, Any]], text: str) -> str:
    """What is wrong, empty where the last message says *text*."""
    said = [item["text"] for item in items(events, "agent_message")]
    if said and said[-1] == text:
        return ""
    problems = [str(event.get("message") or event.get("error")) for event in events if event["type"] in FAILED]
    return f"it says {said}; {'; '.join(dict.fromkeys(problems))}"


NO = subprocess.DEVNULL
FAILED = ("error", "turn.failed")
