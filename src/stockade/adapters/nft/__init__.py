"""The kernel's nftables: our two tables read and written through the helper, counters and changes by netlink."""

from stockade.adapters.nft.helper import Helper
from stockade.adapters.nft.kernel import NftKernel
from stockade.adapters.nft.netlink import Change, Changes

__all__ = ["Change", "Changes", "Helper", "NftKernel"]
