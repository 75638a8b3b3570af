"""Settles due decisions, learns settlements in sequence, writes checkpoints."""
