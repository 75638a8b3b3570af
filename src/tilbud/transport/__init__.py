"""gRPC servicers, converters, interceptors, TLS, auth and health, and the HTTP side."""
