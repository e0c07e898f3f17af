"""NetFlow 5 and 9 and IPFIX: what devices without an agent export of the flows that they saw, datagram by datagram.

Bytes in, values out; what is nonsense is counted and costs nothing else. Whoever listens decides from whom.
"""

from stockade.adapters.netflow.decode import Collector, Exported, Losses
from stockade.adapters.netflow.ear import Ear

__all__ = ["Collector", "Ear", "Exported", "Losses"]
