"""A decision service: which offer should this customer see, here and now?

The rooms, from the ground up. Each imports only from those above it here, and its `__init__` has a map.

    domain/        the rules, pure               v1/           the contract, generated from proto/
    client/        the service as a caller sees it
    concurrency/   batches, locks, time slices for one event loop
    telemetry/     metrics and log               bandit/       Vowpal Wabbit behind types
    ledger/        the durable record
    learning/      settles and learns            insight/      explains and audits
    campaigns/     files in, served campaigns out
    deciding/      the way of a decision
    service/       the other use cases
    transport/     gRPC and HTTP                 simulator/    a client of the contract
    runtime/       wires all of it into processes
    cli/           the command line

A decision comes in by `transport/grpc/decisions.py` and is made in `deciding/pipeline.py`.
"""
