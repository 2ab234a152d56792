"""The documents say what is true: commands, options, targets and links exist, and no machine of ours is named."""

import re
import shlex
import threading
from pathlib import Path

import click
import pytest

from penstock.cli.main import cli
from penstock.testing import Broker

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
MACHINE = re.compile(r"/work/|/tmp/\w|/root/|/home/\w|\.\./shared|https?://(?:localhost|127\.)")


def commands(text: str) -> list[str]:
    """What stands as a command: an indented line, or code in a line, that begins with `penstock` (or pipes into it)."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    lines += re.findall(r"`([^`\n]+)`", text)
    found = [re.split(r"\s{2,}#|\s#\s", line)[0] for line in lines]
    return [part.strip() for line in found for part in line.split("|") if part.strip().startswith("penstock ")]


def resolve(command: str) -> None:
    """Raise KeyError if a verb, AssertionError if an option of `command` does not exist."""
    words = shlex.split(command.replace("...", ""))[1:]
    node: click.Command = cli
    while isinstance(node, click.Group) and words and not words[0].startswith("-"):
        node = node.commands[words.pop(0)]
    known = {name for option in node.params for name in (*option.opts, *option.secondary_opts)} | {
        "--help",
        "--version",
    }
    for word in words:
        if word.startswith("-") and word != "-":
            assert word.split("=")[0] in known, f"{command}: no option {word}"


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_documents_exist_with_their_options(name: str) -> None:
    for command in commands((ROOT / name).read_text()):
        resolve(command)


def test_the_readme_shows_commands_at_all() -> None:
    assert len(commands((ROOT / "README.md").read_text())) > 8
    with pytest.raises(KeyError):
        resolve("penstock queue frobnicate")
    with pytest.raises(AssertionError):
        resolve("penstock status --frob")


def test_the_python_of_the_readme_runs_on_a_new_daemon() -> None:
    text = (ROOT / "README.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "with penstock.connect(" in block]
    with Broker() as broker:
        client = broker.connect()
        client.create_queue("forecast")
        with client.consumer("forecast") as consumer:
            worker = threading.Thread(target=lambda: [message.complete([0.0]) for message in consumer])
            worker.start()
            try:
                exec(code.replace("tcp://127.0.0.1:7470", broker.endpoints[0]), {})
            finally:
                consumer.stop()
                worker.join()
        assert client.describe("work").ready + client.describe("work").done == 100_000


@pytest.mark.parametrize("name", NAMES)
def test_documents_name_no_paths_of_a_machine(name: str) -> None:
    assert MACHINE.findall((ROOT / name).read_text()) == []


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_that_exist(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text()):
        if "://" not in target:
            assert (ROOT / name).parent.joinpath(target).exists(), target


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        for line in path.read_text().splitlines():
            for target in re.findall(r"(?:^    |`)make (\w+)", line):
                assert target in targets, f"{path.name}: make {target}"


def test_every_target_of_the_makefile_is_phony() -> None:
    text = (ROOT / "Makefile").read_text()
    listed = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert listed is not None
    assert set(listed[1].split()) == set(re.findall(r"^(\w+):", text, re.MULTILINE))
