"""How callers reach the service.

grpc/   the contract     http/   metrics and probes
"""
