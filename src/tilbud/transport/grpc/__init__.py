"""The contract over gRPC.

server.py       the server                 unary.py          around every method: admit, answer, measure
decisions.py, customers.py, campaigns.py   the services      explain.py   ExplainDecision
converters.py   messages to our types      codec.py          bytes to messages     status.py   errors to codes
arrivals.py     messages that may not come in_flight.py      what is being answered
unsent.py       answers not yet taken      reflection.py, health_service.py, health_client.py
"""
