"""The contract over HTTP/1.1 by the Connect protocol: unary calls, as JSON or as binary protobuf.

server.py    listeners, connections, drain      connection.py   bytes to requests and back, each with its time
calls.py     requests to calls, answers back    json_codec.py   JSON to messages and back
errors.py    statuses as Connect writes them    origins.py      pages of browsers that may call
ofrep.py     a campaign as a flag of OpenFeature    pages.py   /livez, /readyz, and the way to /metrics
responses.py    a response, before it is written

The handlers, their limits and their errors are those of `transport/grpc/`.
"""
