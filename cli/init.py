"""penstock init: the configuration of a daemon, and the key by which other nodes know it."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path
from typing import Final

import click

from . import output
from .options import Options, Verb

KEY_FILE: Final = "curve.key_secret"  # as security.key_file has it
EXAMPLE: Final = "daemon.toml"  # comes with the package, and explains every setting


@click.command(cls=Verb)
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--node", default=1, show_default=True, type=click.IntRange(1, 2**31), help="Its node id.")
@click.option("--force", is_flag=True, help="Write daemon.toml anew. A key is never overwritten.")
@click.pass_obj
def init(options: Options, directory: Path, node: int, force: bool) -> None:
    """Write DIR/daemon.toml, which explains every setting, and DIR/curve.key_secret, the secret key of a new node.

    Shows the public key, which the daemon.toml of every node of its cluster has to list. What is there already is kept,
    and the key shown once more: without it the node could not come back. In a pipe: config, key_file, public_key.
    """
    from ..peers.curve import make_keys, read_keys  # zmq: not for --help

    directory.mkdir(parents=True, exist_ok=True)
    config, key_file = directory / EXAMPLE, directory / KEY_FILE
    if key_file.exists():
        keys = read_keys(key_file)
        output.note(f"{key_file} is kept")
    else:
        keys = make_keys(key_file)
    if config.exists() and not force:
        output.note(f"{config} is kept: --force writes it anew")
    else:
        config.write_text(configuration(node, keys.public), encoding="utf-8")
    output.one({"config": str(config), "key_file": str(key_file), "public_key": keys.public}, options.json)


def configuration(node: int, public_key: str) -> str:
    """The text of daemon.toml, with the id of the node, and its key where it says how peers are listed."""
    text = importlib.resources.files("penstock").joinpath(EXAMPLE).read_text(encoding="utf-8")
    for pattern, value in ((r"(?m)^id = 1\b", f"id = {node}"), (r"(?m)^# id = 1\b", f"# id = {node}"),
                           (r'(?m)^# public_key = ".*?"', f'# public_key = "{public_key}"')):  # fmt: skip
        text, count = re.subn(pattern, value, text)  # a key has no backslash
        assert count == 1, pattern
    return text
