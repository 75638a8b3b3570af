"""Reports, lift, off-policy evaluation, explanations."""
