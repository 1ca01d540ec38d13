"""Faster products, where torch's or peft's own are slow; ``AUDIT_LIT_SPEEDUPS=off`` switches them off."""
