"""What the service says of itself.

metrics.py     every metric, in one registry         fast.py        counters and histograms for hot paths
decisions.py   of decisions, reports, customers      families.py    how metrics are made and named
learning.py    of settling, learning, models         declared.py    labels that begin at 0
process.py     of calls, the ledger, the process     exposition.py  what a scrape reads
log.py         one JSON object a line                log_lines.py   standard error, never waited for
disk.py        space on disk                         stalls.py      how late the event loop is
spans.py       what the rooms know of traces         otel.py        traces by OpenTelemetry
offer_values.py  what offers are worth to everybody
"""
