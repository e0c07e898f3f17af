"""The nftables target: intent → program text, as values that ``reconcile`` compares with what the kernel holds."""
