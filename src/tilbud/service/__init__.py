"""The use cases: decide, activate, report outcomes, customers, campaigns. No gRPC."""
