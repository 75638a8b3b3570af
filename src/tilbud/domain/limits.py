"""Every limit in one place, with its unit last.

What holds: each queue, cache, table and message of the service is bounded by a number here, and whatever it
waits for or does now and then has its time here. Those that are fixed (ClassVar) are the same in every
service and read from the class: what a campaign file may say is in its JSON Schema too, caches of pure
functions belong to the module, and some are read before there are settings. The others are a service's own,
and reach each room by its constructor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one service; frozen once it serves."""

    # Messages
    id_chars_max: int = 128
    text_chars_max: ClassVar[int] = 128
    version_chars_max: ClassVar[int] = 64
    features_max: ClassVar[int] = 100
    batch_items_max: int = 1_000
    offer_list_max: int = 1_000
    outcomes_max: int = 1_000  # of one decision
    number_abs_max: ClassVar[float] = 3.4028234e38
    message_bytes_max: int = 4 * 1024 * 1024
    answers_bytes_max: int = 4_000_000  # of a batch: clients refuse messages of more than 4 MiB
    refused_message_bytes_max: int = 16 * 1024 * 1024  # beyond which gRPC refuses it, not this service
    campaigns_page_bytes_max: int = 3 * 1024 * 1024
    text_walk_fields_max: ClassVar[int] = 5_000  # to find bad text; a walk in Python holds everybody up
    status_message_bytes_max: ClassVar[int] = 800  # in trailers, of which many clients take 8 KiB at most
    status_violations_bytes_max: ClassVar[int] = 2_000
    retry_unavailable_s: ClassVar[float] = 0.1

    # Campaign files
    campaigns_max: int = 1_000
    offers_max: ClassVar[int] = 1_000
    context_series_max: int = 100  # of a campaign's words, that each counter by context begins with
    campaign_file_bytes_max: int = 4 * 1024 * 1024
    payload_bytes_max: ClassVar[int] = 64 * 1024
    payload_levels_max: ClassVar[int] = 16  # one is up to three of the hundred that protobuf reads
    labels_max: ClassVar[int] = 50  # labels of metrics multiply; this bounds them
    caps_max: ClassVar[int] = 10  # of one offer, group or channel: each is counted at every decision
    cap_times_in_files_max: ClassVar[int] = 100
    sentence_chars_max: ClassVar[int] = 500
    condition_levels_max: ClassVar[int] = 8
    yaml_values_max: ClassVar[int] = 200_000
    yaml_levels_max: ClassVar[int] = 40
    yaml_explained_bytes_max: ClassVar[int] = (
        128 * 1024
    )  # of a file read again, slowly, for PyYAML's own words
    files_look_every_s: float = 1.0
    files_look_after_failure_s: float = 30.0
    files_reported_max: int = 100  # keys that changed, and problems

    # Customers
    traits_max: ClassVar[int] = 100
    preference_list_max: int = 100
    blocked_offers_max: int = 1_000
    customer_events_max: int = 100  # different ones of one customer
    cap_times_max: int = 100  # that are counted: as many as a file may ask for
    exposures_kept_s: float = 401 * 86_400.0  # the longest cap, and a day
    export_page_rows: int = 200  # unless the call says another number
    export_page_rows_max: int = 1_000
    page_token_chars_max: int = 1_000
    export_page_bytes_max: int = 128 * 1024  # a row that is larger comes alone
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
    unsent_counted_bytes: int = 16 * 1024  # from which an answer is counted
    request_wait_s: float = 20.0  # for the message of a call
    request_sweep_every_s: float = 0.5
    watchers_max: int = 10_000  # of health
    reflections_max: int = 100
    connections_max: int = 8_192
    unix_path_bytes_max: ClassVar[int] = 107  # of a unix socket, see unix(7)
    descriptors_kept: int = 256  # from connections, for the ledger, checkpoints and the HTTP side
    streams_max: int = 16  # of one connection; a client keeps back what is more
    ping_interval_min_s: float = 0.5  # of a client's keepalive; one that pings more often is sent away
    gathered_every_s: float = 0.001  # batches of calls that came one by one
    gathered_calls_max: int = 64  # about 3 ms of work
    timer_min_s: ClassVar[float] = 0.0002  # below it none is set: it is good to a millisecond
    ledger_queue_rows_max: int = 50_000
    ledger_batch_rows_max: int = 2_000
    retry_after_s: float = 0.25
    decide_time_left_min_s: float = 0.003
    loop_slice_s: float = 0.003
    lock_wait_s: float = 1.5  # of a commit, where another program has the ledger locked
    ledger_opening_wait_s: ClassVar[float] = 5.0  # of a connection, likewise, before it serves
    ledger_opening_retry_s: ClassVar[float] = 0.02
    beat_every_s: float = 0.25  # how often a process looks how it is, and proves that it commits
    idle_proof_s: float = 0.5  # without a commit, after which one is made
    outage_from_s: float = 1.5  # without a commit of any process; the service clock is set back by all of it
    outage_allowance_s: float = 2.0  # for which the clock stands still after one, at most as long as it was
    commit_overdue_s: float = 1.0  # from which the service is not ready
    proof_overdue_s: float = 2.0  # without any commit of the process, likewise
    loop_overdue_s: float = 2.0  # in which the event loop did not come round, likewise
    check_at_start_s: float = 2.0  # of the ledger's file
    probe_bytes: int = 64 * 1024  # that must fit on the disk before the ledger commits again
    check_look_every_instructions: ClassVar[int] = 10_000  # of SQLite's, at the clock
    wal_kept_bytes: ClassVar[int] = 64 * 1024 * 1024
    wal_grown_pages: ClassVar[int] = 1_024  # of 4 KiB, beyond which it is emptied
    wal_look_every_s: ClassVar[float] = 0.25
    wal_retry_s: ClassVar[float] = 0.1  # where an erasure waits for it
    wal_lock_wait_ms: ClassVar[int] = 20  # for a reader; writers wait meanwhile
    wal_emptied_within_s: float = 5.0  # for which an erasure waits

    # The HTTP side
    http_connections_max: ClassVar[int] = 128
    http_accepted_at_once: ClassVar[int] = 32
    http_spare_descriptors: ClassVar[int] = 8
    http_request_s: ClassVar[float] = 5.0
    http_answer_s: ClassVar[float] = 10.0
    http_pause_s: ClassVar[float] = 0.1  # where a connection cannot be had
    http_head_bytes_max: ClassVar[int] = 16 * 1024
    http_scrapes_max: ClassVar[int] = 4  # being made, also those that hang
    http_problems_reported_max: ClassVar[int] = 10  # of campaign files

    # Calls over HTTP
    connect_connections_max: int = 2_048
    connect_headers_max: int = 100
    connect_idle_s: float = 75.0  # of a connection between two requests: longer than balancers keep theirs
    connect_answer_s: float = 20.0  # until a client has taken an answer
    connect_linger_s: float = 1.0  # in which what still comes after the last answer is read
    connect_free_bytes: int = 64 * 1024  # of a connection's unanswered requests; beyond, all are bounded
    connect_heads_cached_max: ClassVar[int] = 64
    message_types_cached_max: ClassVar[int] = 256
    json_counted_bytes: int = 64 * 1024  # from which a request's values are counted before it is read
    json_values_max: int = 350_000  # a thousand decisions with a hundred features each have 310,000
    json_sliced_bytes: int = 16 * 1024  # from which an answer is written in slices

    # Log
    log_lines_waiting_max: ClassVar[int] = 4_096  # for whoever reads standard error
    log_line_chars_max: ClassVar[int] = 16_384
    log_last_words_s: ClassVar[float] = 1.0  # at the end
    log_look_every_ms: ClassVar[int] = 1_000  # whether a reader that is too slow reads again

    # Traces
    spans_sent_within_s: float = 2.0  # at the end, while a collector may be away

    # Caches
    context_cache_entries_max: int = 5_000
    context_cached_chars_max: int = 1_000
    offer_set_cache_entries_max: int = 2_000
    fates_cache_offers_max: int = 200_000  # of all sets together
    profile_cache_entries_max: int = 5_000
    interned_texts_max: int = 20_000
    feature_indexes_cached_max: ClassVar[int] = 65_536
    feature_situations_cached_max: ClassVar[int] = 16_384
    scores_cached_max: ClassVar[int] = 10_000  # of a model, between two lessons
    paired_features_max: ClassVar[int] = 20  # of a context, whose pairs are tried
    squashed_max: ClassVar[float] = 700.0  # beyond which an exponential is no number
    knots_of_values: ClassVar[int] = 200  # of a number, from which its knots are made
    knots_judged_after: ClassVar[int] = 1_000  # values: most of them beyond the knots, and there are others
    plain_situations_cached_max: ClassVar[int] = 1_024  # of a campaign
    spoken_languages_cached_max: ClassVar[int] = 1_024  # of a campaign
    frequency_caps_cached_max: ClassVar[int] = 2_000  # sets of eligible offers, of a campaign
    decision_rules_cached_max: ClassVar[int] = 2_000
    moments_cached_max: ClassVar[int] = 4_096  # minutes in a time zone
    time_zones_cached_max: ClassVar[int] = 1_024
    versions_cached_max: ClassVar[int] = 4_096
    language_tags_cached_max: ClassVar[int] = 8_192  # of each question about them
    langcodes_cached_max: ClassVar[int] = 4_096  # of each cache of the library, beyond which it is emptied
    keyed_hashes_cached_max: ClassVar[int] = 16
    varints_cached_max: ClassVar[int] = 4_096
    answer_parts_cached_max: ClassVar[int] = 1_000  # of each kind
    escaped_labels_cached_max: ClassVar[int] = 4_096
    packings_cached_max: ClassVar[int] = 2_000
    insert_texts_cached_max: ClassVar[int] = 256
    key_texts_cached_max: ClassVar[int] = 16
    filled_texts_cached_max: ClassVar[int] = 64
    statements_cached_max: ClassVar[int] = 256  # of a connection to the ledger
    ledger_cache_kib: ClassVar[int] = 32 * 1024  # likewise

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
    learn_batch_rows: int = 64
    relearn_beside_rows: int = 5_000  # from which a process of its own learns them
    stand_in_rows: int = 20_000  # of all campaigns at a start, beyond which another model answers meanwhile
    relearn_tries_max: int = 3
    relearn_again_s: float = 1.0  # after a try that failed, then twice as long each time
    relearn_silent_max_s: float = 120.0  # of a process that tells twice a second how far it is
    relearn_silent_looks: int = 60  # in which it says nothing, of that time
    relearn_reported_every_s: ClassVar[float] = 0.5
    relearn_look_every_s: float = 0.1  # whether another process of the service is done with it
    relearn_batch_rows: ClassVar[int] = 256
    relearn_last_words_lines: ClassVar[int] = 20
    checkpoint_every_settlements: int = 10_000
    checkpoint_every_s: float = 60.0
    checkpoint_generations: int = 3
    checkpoint_lock_tries_max: ClassVar[int] = 500
    checkpoint_lock_retry_s: ClassVar[float] = 0.002
    checkpoint_manifest_bytes_max: ClassVar[int] = 64 * 1024

    # Audits, explanations, backups
    reader_page_rows: ClassVar[int] = 256  # read of the ledger at once, from outside the loop
    audit_probes: ClassVar[int] = 100
    audit_overtaken_rows_max: ClassVar[int] = 2_000  # by which a decision may be recorded late
    explained_values_max: ClassVar[int] = 40  # each is one prediction, on the thread that decides
    explained_factors_each_way_max: ClassVar[int] = 5
    explained_factors_named_max: ClassVar[int] = 3
    backup_tries_max: ClassVar[int] = 5
    backup_step_pages: ClassVar[int] = 1_024  # of 4 KiB
    backup_poll_every_s: ClassVar[float] = 0.2  # while a copy is checked, for signals

    # Workers
    worker_beat_every_s: float = 0.5  # a message to the supervisor
    worker_silent_max_s: float = 5.0  # before one that serves is killed and started again
    worker_start_idle_max_s: float = 30.0  # likewise of one that starts, in which it hardly works
    worker_start_work_min_s: float = 0.2  # of a core, which is more than being asked how it is takes
    workers_max: ClassVar[int] = 64
    worker_pause_min_s: float = 0.1  # before one that ended is started again, then twice as long each time
    worker_pause_max_s: float = 5.0
    worker_served_s: float = 10.0  # after which the pause is the shortest again
    worker_killed_after_s: float = 2.0  # beyond the time after which it gives up by itself
    shutdown_hanging_s: float = 5.0  # beyond the graces of a stop

    # The process
    young_objects_max: int = (
        10_000  # before they are collected: every 700, as by default, cost 4 % of a decision
    )
    memory_look_every_s: ClassVar[float] = 15.0
    memory_grown_bytes: ClassVar[int] = 64 * 1024 * 1024  # below which nothing is given back
    memory_helped_ratio: ClassVar[float] = 0.9  # of what there was is left
    memory_looks_max: ClassVar[int] = 240  # an hour, between two givings
    stall_sleep_s: ClassVar[float] = 0.01  # while calls are in flight
    stall_busy_s: ClassVar[float] = 1.0  # and for so long after
    stall_idle_sleep_s: ClassVar[float] = 0.1

    # Ages
    wall_clock_tolerance_s: float = 60.0  # between two readings, beyond which it jumped
    wall_clock_accepted_after_s: float = 86_400.0  # of keeping to its new time
    wall_clock_away_max_s: float = 86_400.0  # between a stop and a start, beyond which it may be wrong

    # Retention
    retention_s: float = 90 * 86_400.0
    purge_every_s: float = 600.0
    purge_batch_rows_max: int = 500
