"""What was in force last, brought into force again by nobody but this host: no controller, no network, no runtime.

Promises: what the kernel holds is read before it is changed; when this returns, the kernel was read again and holds
what was wanted; doing it twice changes nothing; a transaction that is refused leaves what was in force; nothing takes
the place of what came into force later.
"""

from stockade.agent.enforcing import Rendered
from stockade.core.compile.nft.render import superseded
from stockade.core.model.intent import Intent
from stockade.errors import StockadeError
from stockade.seams.kernel import Kernel, KernelRefused

ATTEMPTS = 4
"""The last of those that succeed only looks. A helper may die on the way, somebody may flush the rules: who asks again
gets another helper."""


def restore(kernel: Kernel, intent: Intent) -> int:
    """Bring an intent into force; return how many transactions that took. Raises ``StockadeError``."""
    planning, done, reason = Rendered(), 0, "somebody else changes our tables at the same time"
    for _ in range(ATTEMPTS):
        try:
            held = kernel.observe()
            if not done and superseded(intent, held):
                raise StockadeError(
                    "what this host enforces came into force after what was kept of it",
                    kept="nothing was changed: it stays in force",
                    remedy="stockade up",
                )
            batches = planning(intent, held).batches
            if not batches:
                return done
            for batch in batches:
                kernel.commit(batch)
                done += 1
        except (KernelRefused, OSError) as problem:
            reason = str(problem) or type(problem).__name__
    raise StockadeError(
        f"what was in force last could not be restored: {reason}",
        kept="what the kernel holds of it stays; the rest is open until `stockade up` runs",
        remedy="stockade doctor, then stockade up",
    )
