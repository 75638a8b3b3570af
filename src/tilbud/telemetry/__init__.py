"""Metric names and structured log events."""
