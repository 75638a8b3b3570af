"""The HTTP side.

metrics_server.py   /metrics, /livez, /readyz
"""
