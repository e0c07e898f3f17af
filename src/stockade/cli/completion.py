"""``stockade completion``."""

from typing import Annotated, Literal

from cyclopts import Parameter

from stockade.cli.exits import Exit


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Which shell.")],
) -> int:
    """Print shell completion, to be sourced.

    For bash: source <(stockade completion bash), for example in ~/.bashrc.
    """
    from stockade.cli.main import application

    print(application().generate_completion(shell=shell))
    return Exit.DONE
