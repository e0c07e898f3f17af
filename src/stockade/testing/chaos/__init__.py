"""Every kind of fault that a host meets, in an order that a seed decides, and what must hold through each of them.

``registry`` is the list of faults, ``suite.endure`` strikes with them one after the other. Nothing here is pretended:
a fault that this machine cannot do is *not assessed*, with the reason.
"""
