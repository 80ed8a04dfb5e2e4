"""What a shell needs to complete words, and what there is to complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

from .._client import bulk, inspection
from .._protocol.request import printable
from ._session import keep

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["completion", "rule_ids", "running_ids"]

#: For how long the workers are asked what runs while somebody waits for the completion of a word, in ms.
_PATIENCE: Final = 500


_KINDS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command("completion")
@click.argument("shell", type=click.Choice(list(_KINDS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print what lets a shell complete words.

    \b
    bash: eval "$(dramatiq-abort completion bash)" in ~/.bashrc
    zsh:  eval "$(dramatiq-abort completion zsh)" in ~/.zshrc
    fish: dramatiq-abort completion fish > ~/.config/fish/completions/dramatiq-abort.fish
    """
    kind = _KINDS[shell]
    made = kind(context.find_root().command, {}, "dramatiq-abort", "_DRAMATIQ_ABORT_COMPLETE")
    click.echo(kind.source_template % made.source_vars())  # not source(), which wants a bash to be here


def running_ids(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the ids of the messages that run."""
    return _items(
        context, begun, lambda at: ((each.message_id, each.actor) for each in inspection.running(at, timeout=_PATIENCE))
    )


def rule_ids(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the ids of the rules."""
    return _items(context, begun, lambda at: ((rule.id, str(rule)) for rule in bulk.abort_rules(at)))


def _items(context: click.Context, begun: str, find: Any) -> list[CompletionItem]:
    keep(context)
    try:
        found: Iterable[tuple[str, str]] = list(find(context.obj.middleware))
    except Exception:  # noqa: BLE001  # nothing is completed then, and nothing may be said
        return []
    # A line is a word, for the shell.
    return [
        CompletionItem(name, help=printable(about))
        for name, about in found
        if name.startswith(begun) and name.isprintable()
    ]
