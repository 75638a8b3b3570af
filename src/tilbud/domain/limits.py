"""Every limit in one place, with its unit last.

What holds: each queue, cache, table and message of the service is bounded by a number here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one service; frozen once it serves."""

    # Messages
    id_chars_max: int = 128
    text_chars_max: int = 128
    features_max: int = 100
    batch_items_max: int = 1_000
    offer_list_max: int = 1_000
    outcomes_max: int = 1_000  # of one decision
    number_abs_max: float = 3.4028234e38
    message_bytes_max: int = 4 * 1024 * 1024
    answers_bytes_max: int = 4_000_000  # of a batch: clients refuse messages of more than 4 MiB
    refused_message_bytes_max: int = 16 * 1024 * 1024  # beyond which gRPC refuses it, not this service
    campaigns_page_bytes_max: int = 3 * 1024 * 1024

    # Campaign files
    campaigns_max: int = 1_000
    offers_max: int = 1_000
    context_series_max: int = 100  # of a campaign's words, that each counter by context begins with
    campaign_file_bytes_max: int = 4 * 1024 * 1024
    payload_bytes_max: int = 64 * 1024

    # Customers
    traits_max: int = 100
    preference_list_max: int = 100
    blocked_offers_max: int = 1_000
    customer_events_max: int = 100  # different ones of one customer
    cap_times_max: int = 100
    exposures_kept_s: float = 401 * 86_400.0  # the longest cap, and a day
    export_page_rows: int = 200  # unless the call says another number
    export_page_rows_max: int = 1_000
    page_token_chars_max: int = 1_000
    export_page_bytes_max: int = 128 * 1024  # a row that is larger comes alone; it takes the loop some 10 ms
    erasures_of_strangers_at_once: int = 1_000  # each leaves a tombstone, for good
    erasures_of_strangers_per_s: float = 5.0
    look_up_at_once: int = 64  # decisions, of one batch
    decide_tries_max: int = 20  # where a customer changed while it was decided
    pause_reason_chars_max: int = 500

    # In flight
    listeners: int = 16  # on the one address of gRPC, see transport/grpc/server.py
    calls_in_flight_max: int = 8_192  # half of it for connections that have few
    request_bytes_in_flight_max: int = 128 * 1024 * 1024  # likewise
    calls_unread_max: int = 8_192  # whose message has not come
    pending_max: int = 8_192  # of one listener; beyond it gRPC ends calls, which costs more than they
    batch_items_at_once: int = 2_000  # of all batches that are worked on; one may have more
    batch_items_waiting_max: int = 100_000  # of all batches that wait or are worked on
    connection_items_waiting_max: int = 32_000
    unsent_bytes_max: int = 128 * 1024 * 1024  # of large answers that callers have not taken
    connection_unsent_bytes_max: int = 8 * 1024 * 1024
    request_wait_s: float = 20.0  # for the message of a call
    watchers_max: int = 10_000  # of health
    reflections_max: int = 100
    connections_max: int = 8_192
    descriptors_kept: int = 256  # from connections, for the ledger, checkpoints and the HTTP side
    streams_max: int = 16  # of one connection; a client keeps back what is more
    ping_interval_min_s: float = 0.5  # of a client's keepalive; one that pings more often is sent away
    gathered_every_s: float = 0.001  # batches of calls that came one by one
    ledger_queue_rows_max: int = 50_000
    ledger_batch_rows_max: int = 2_000
    retry_after_s: float = 0.25
    decide_time_left_min_s: float = 0.003
    loop_slice_s: float = 0.003
    lock_wait_s: float = 1.5  # of a commit, where another program has the ledger locked
    beat_every_s: float = 0.25  # how often a process looks how it is, and proves that it commits
    idle_proof_s: float = 0.5  # without a commit, after which one is made
    outage_from_s: float = 1.5  # without a commit of any process; the service clock is set back by all of it
    outage_allowance_s: float = 2.0  # for which the clock stands still after one, at most as long as it was
    commit_overdue_s: float = 1.0  # from which the service is not ready
    proof_overdue_s: float = 2.0  # without any commit of the process, likewise
    loop_overdue_s: float = 2.0  # in which the event loop did not come round, likewise
    check_at_start_s: float = 2.0  # of the ledger's file
    probe_bytes: int = 64 * 1024  # that must fit on the disk before the ledger commits again

    # Log
    log_lines_waiting_max: int = 4_096  # for whoever reads standard error
    log_line_chars_max: int = 16_384

    # Caches
    context_cache_entries_max: int = 5_000
    context_cached_chars_max: int = 1_000
    offer_set_cache_entries_max: int = 2_000
    fates_cache_offers_max: int = 200_000  # of all sets together
    profile_cache_entries_max: int = 5_000
    interned_texts_max: int = 20_000

    # Learning
    settle_batch_rows_max: int = 100  # a commit of that many holds up decisions by about 2 ms
    settle_every_s: float = 0.1
    campaign_away_max_s: float = 86_400.0  # beyond it what is open of a campaign that is not served settles
    lease_s: float = 1.2  # with a turn, well below the 2 s within which another process goes on
    lease_renew_every_s: float = 0.3
    turn_overdue_s: float = 15.0
    learn_slice_s: float = 0.0003  # a call comes to the loop several times, perhaps behind one each time
    learn_pause_s: float = 0.001  # after a slice, unless there is a backlog
    learn_hurry_lag_s: float = 0.3  # of settling, from which it is a backlog
    learn_paced_rows: int = 512  # at once, beyond which it is one too
    relearn_beside_rows: int = 5_000  # from which a process of its own learns them
    stand_in_rows: int = 20_000  # of all campaigns at a start, beyond which another model answers meanwhile
    relearn_tries_max: int = 3
    relearn_again_s: float = 1.0  # after a try that failed, then twice as long each time
    relearn_silent_max_s: float = 120.0  # of a process that tells twice a second how far it is
    checkpoint_every_settlements: int = 10_000
    checkpoint_every_s: float = 60.0
    checkpoint_generations: int = 3

    # Workers
    worker_beat_every_s: float = 0.5  # told to the supervisor
    worker_silent_max_s: float = 5.0  # before one that serves is killed and started again
    worker_start_idle_max_s: float = 30.0  # likewise of one that starts, in which it hardly works
    worker_start_work_min_s: float = 0.2  # of a core, which is more than being asked how it is takes

    # Ages
    wall_clock_tolerance_s: float = 60.0  # between two readings, beyond which it jumped
    wall_clock_accepted_after_s: float = 86_400.0  # of keeping to its new time
    wall_clock_away_max_s: float = 86_400.0  # between a stop and a start, beyond which it may be wrong

    # Keeping
    retention_s: float = 90 * 86_400.0
    purge_every_s: float = 600.0
    purge_batch_rows_max: int = 500
