"""What the service says of itself.

metrics.py   every metric                fast.py         counters and histograms for hot paths
declared.py  labels that begin at 0      exposition.py   what a scrape reads
disk.py      space on disk               stalls.py       how late the event loop is
log.py       one JSON object a line      log_lines.py    standard error, never waited for
"""
