"""The service as a caller sees it: where it is, one call, and what a refusal means in words.

address.py   what to dial for an address      refusals.py   a refused call as sentences
calls.py     a connection that asks one thing after another

What holds: it knows the contract and nothing of the service; it needs grpcio and protobuf alone.
"""
