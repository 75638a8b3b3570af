"""How callers reach the service.

grpc/        the contract              connect/   the contract over HTTP     http/   metrics and probes
call.py      a call, whatever brings it           address.py   where a service listens
"""
