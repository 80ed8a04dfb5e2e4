"""Shell completion: its script, and the completion of message ids and rule ids."""

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

#: How long to wait for the replies of workers during a completion, in ms.
_PATIENCE: Final = 500

_KINDS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command("completion")
@click.argument("shell", type=click.Choice(list(_KINDS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print the completion script for a shell.

    \b
    bash: eval "$(dramatiq-abort completion bash)" in ~/.bashrc
    zsh:  eval "$(dramatiq-abort completion zsh)" in ~/.zshrc
    fish: dramatiq-abort completion fish > ~/.config/fish/completions/dramatiq-abort.fish
    """
    kind = _KINDS[shell]
    made = kind(context.find_root().command, {}, "dramatiq-abort", "_DRAMATIQ_ABORT_COMPLETE")
    click.echo(kind.source_template % made.source_vars())  # not source(), which needs bash to be installed


def running_ids(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return completions with the ids of running messages."""
    return _items(
        context,
        incomplete,
        lambda middleware: (
            (each.message_id, each.actor) for each in inspection.running(middleware, timeout=_PATIENCE)
        ),
    )


def rule_ids(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return completions with the ids of rules."""
    return _items(
        context, incomplete, lambda middleware: ((rule.id, str(rule)) for rule in bulk.abort_rules(middleware))
    )


def _items(context: click.Context, incomplete: str, find: Any) -> list[CompletionItem]:
    keep(context)
    try:
        found: Iterable[tuple[str, str]] = list(find(context.obj.middleware))
    except Exception:  # noqa: BLE001  # nothing is completed then, and any output would disturb the shell
        return []
    # The shell reads one completion per line.
    return [
        CompletionItem(name, help=printable(about))
        for name, about in found
        if name.startswith(incomplete) and name.isprintable()
    ]
