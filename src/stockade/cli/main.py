"""The command line's table of contents. A verb's module is loaded when the verb is used, so that starting is quick."""

import sys
from typing import NamedTuple

from cyclopts import App, CycloptsError

from stockade.cli.failing import guarded
from stockade.errors import StockadeError


class Verb(NamedTuple):
    """One verb: where it lives and what it does in one line."""

    name: str
    where: str
    summary: str


VERBS = (
    Verb("up", "stockade.cli.up:up", "Run Stockade on this host: discover, label, enforce what was applied."),
    Verb("restore", "stockade.cli.restore:restore", "At boot: what was in force last, before the network is up."),
    Verb("demo", "stockade.cli.demo:demo", "Show the main job on a small lab of real network namespaces."),
    Verb("lab", "stockade.cli.lab:app", "A lab of network namespaces to try policies on."),
    Verb("status", "stockade.cli.status:status", "The installation at a glance, and every setting with its origin."),
    Verb("console", "stockade.cli.console:console", "A link that signs you in to the web console."),
    Verb("workloads", "stockade.cli.workloads:workloads", "Every workload with its labels; --watch follows them."),
    Verb("labels", "stockade.cli.labels:app", "Labels in use and who set them; set them by hand."),
    Verb("policy", "stockade.cli.policy:app", "Check policy files, show a version, print the JSON Schema."),
    Verb("plan", "stockade.cli.plan:plan", "What a draft would change. Changes nothing."),
    Verb("apply", "stockade.cli.apply:apply", "Make a draft the active version."),
    Verb("confirm", "stockade.cli.confirm:confirm", "Keep a version that was applied with --confirm."),
    Verb("history", "stockade.cli.history:history", "Every policy version, newest first."),
    Verb("rollback", "stockade.cli.rollback:rollback", "Make an earlier version active again, as a new version."),
    Verb("mode", "stockade.cli.mode:mode", "Change the enforcement mode of what a selector matches."),
    Verb("off", "stockade.cli.off:off", "Open everything; works when all else is dead, too."),
    Verb("explain", "stockade.cli.explain:explain", "Why a connection is allowed or denied."),
    Verb("reach", "stockade.cli.reach:reach", "Who may reach a workload, and what it may reach."),
    Verb("rules", "stockade.cli.rules:rules", "The compiled rules of a host, each beside its policy line."),
    Verb("flows", "stockade.cli.flows:flows", "Who talked to whom, what became of it, and by which rule."),
    Verb("graph", "stockade.cli.graph:graph", "The map as a table: seen, permitted, and needed by a draft."),
    Verb("watch", "stockade.cli.watch:watch", "What goes on, live: health, edges with rates, flows, births, findings."),
    Verb("suggest", "stockade.cli.suggest:suggest", "A policy from recorded flows, with what it rests on."),
    Verb("ringfence", "stockade.cli.suggest:ringfence", "An app allowed to itself and its observed neighbours."),
    Verb("births", "stockade.cli.births:births", "Birth records: how soon new workloads were contained."),
    Verb("gate", "stockade.cli.gate:app", "The birth gate in this machine's container runtimes."),
    Verb("audit", "stockade.cli.audit:audit", "What runs here and no source tells of: dark workloads."),
    Verb("log", "stockade.cli.log:log", "The audit log: who did what, when, and what came of it."),
    Verb("findings", "stockade.cli.findings:findings", "What could lead traffic past policy, or change what enforces."),
    Verb("doctor", "stockade.cli.doctor:doctor", "What works on this machine, what will not, and why."),
    Verb("completion", "stockade.cli.completion:completion", "Shell completion for bash, zsh or fish."),
    Verb("version", "stockade.cli.version:version", "The version of this program."),
)

HELP = ("--help", "-h")
STDIN = "/dev/stdin"
"""What ``-`` stands for."""
EPILOGUE = (
    "Exit codes: 0 done, nothing to report; 1 error; 2 there is something to see (changes, a denial, findings); "
    "3 not assessed."
)


def application(*, summaries: bool = False) -> App:
    """Return the command line, with every verb by name only.

    ``summaries``: each verb's help is its one line, so that the table of contents is shown without loading the verbs.
    """
    app = App(
        name="stockade",
        help="Contain breaches: one label policy over everything that runs here.",
        help_epilogue=EPILOGUE,
        help_format="plaintext",
        help_formatter="plain",
        version_flags=[],
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for order, verb in enumerate(VERBS):
        app.command(verb.where, name=verb.name, help=verb.summary if summaries else None, sort_key=order)
    return app


def main() -> None:
    """Run the verb that the command line names, and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    return guarded(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    match arguments:
        case ["--version" | "-V", *others]:
            arguments = ["version", *others]
        case ["help", *others]:
            arguments = [*others, "--help"]
    named = arguments[:1] if arguments and not arguments[0].startswith("-") else []
    if named and named[0] not in {verb.name for verb in VERBS}:
        raise _unknown_verb(named[0])
    if arguments and not named and arguments[0] not in HELP:
        raise StockadeError(
            f"options come after a verb: {arguments[0]}", kept="nothing was done", remedy="stockade --help"
        )
    arguments = [STDIN if each == "-" else each for each in arguments]
    try:
        code = int(application(summaries=not named)(arguments) or 0)
        # Here, where a full disk or a reader that has gone is still reported, and not when Python exits.
        sys.stdout.flush()
        return code
    except CycloptsError as problem:
        remedy = " ".join(["stockade", *named, "--help"])
        raise StockadeError(str(problem).strip(), kept="nothing was done", remedy=remedy) from None


def _unknown_verb(name: str) -> StockadeError:
    from difflib import get_close_matches

    near = get_close_matches(name, [verb.name for verb in VERBS], 1)
    meant = f'; did you mean "{near[0]}"?' if near else ""
    return StockadeError(f'there is no verb "{name}"{meant}', kept="nothing was done", remedy="stockade --help")
