"""Names of engine/ that nothing inside it calls, by reason. `make check` reports every other one.

Each is an attribute of `_`, so that the file stays valid Python without imports.
"""

# ruff: noqa: B018

# Offered to users (documented in docs/), and used by tests.
_.get_symbol_data
_.get_loaded_symbols
_.next_open
_.next_close
_.previous_open
_.previous_close
_.minutes_between
_.sessions_between
_.get_symbols_with_derived
_.wait_for_revision
_.indicator_values
_.session_baseline
_.bars_derived
_.bars_updated
_.quotes_updated
_.ticks_updated
_.historical_bars
_.historical_indicators
_.last_update
_.latest_trade
_.open_interest
_.session_high
_.session_low
_.session_volume
_.adjustment
_.custom
_.apply_delta
_.drop_cursor
_.list_cursors
_.write_dataset
_.check_bars
_.simulate_ticks
_.IteratorStream
_.ManualClock
_.pending_backfills
_.unregister
_.FEED
_.reconnects

# Fields of `engine.reference`, the specification: read by tests and by people.
_.bar_start
_.bar_count

# Fields that are read by name (`dataclasses.fields`, `getattr`, keyword arguments of faults).
_.missing_start
_.missing_middle
_.missing_end
_.absent_session
_.duplicate
_.correction
_.off_grid
_.bad_row

# Called by Python, IPython, Typer, rich, pydantic, DuckDB through fsspec, or alpaca-py.
_._repr_html_
_.title_justify
_.model_config
_.check_dates
_.check_sections
_.protocol
_.cachable
_.created
_.isdir
_.ls
_.readable
_.seek
_.seekable
_.writable
_.cp
_.cp_file
_.delete
_.download
_.get_file
_.makedir
_.makedirs
_.mkdirs
_.mv
_.pipe_file
_.put_file
_.rm
_.rm_file
_.start_transaction
_.upload
_._retry
_._reconnect_max_backoff
_._reconnect_min_backoff
readinto  # io.BufferedReader calls it
formatwarning  # warnings.formatwarning: Python calls it
requested_schema  # the Arrow PyCapsule protocol names it
layout_markdown  # docs/sources.md is compared with it
# http.server calls or reads these.
address_family
server_version
sys_version
do_HEAD
log_message
# requests and urllib3 read these.
_.pool_classes_by_scheme
ConnectionCls
