"""The contract: protobuf and gRPC code generated from proto/tilbud/v1 by `make proto`."""
