"""penstock completion: the script that teaches a shell our words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from . import output
from .options import Options, Verb

SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Verb)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash: eval "$(penstock completion bash)"   in ~/.bashrc
    zsh:  eval "$(penstock completion zsh)"   in ~/.zshrc
    fish: penstock completion fish > ~/.config/fish/completions/penstock.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click does not know {shell}")
    script = kind(ctx.find_root().command, {}, "penstock", "_PENSTOCK_COMPLETE").source()
    if isinstance(ctx.obj, Options) and ctx.obj.json:
        output.say_json({"shell": shell, "script": script})
    else:
        output.say(script)
